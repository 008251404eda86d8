"""A stretch of a video as rows of an index, for every retriever."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from data_pipeline import merging, pooling
from dreamprvr_jax.archive.index.encoding import clip_edges
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.trained.retriever import Retriever


def rows_of(
  retriever: Retriever,
  features: Float[np.ndarray, 'n d'],
  *,
  times: Float[np.ndarray, ' n'] | None = None,
  start: float = 0.0,
  duration: float = math.nan,
) -> dict[str, np.ndarray]:
  """Returns a stretch of a video as rows of an index.

  A trained model gives one row: the stretch is pooled to its clips and frames,
  as a whole video is in training. Without training there may be several; see
  `Retriever.rows`.

  Args:
    retriever: The retriever.
    features: Frame vectors of the stretch, in time order, n at least 1.
    times: Seconds of the whole file at which they were taken; a trained model
      takes them as evenly spaced.
    start: Second of the whole file at which the stretch begins.
    duration: Seconds of the stretch, NaN if unknown.

  Returns:
    For r rows clip_tokens (r, c, d), frame_tokens (r, f, d), frame_mask (r, f),
    clip_edges (r, c + 1) and frame_edges (r, f + 1) float32, fractions of the
    row's own stretch (padded ones 1), starts and durations (r,) float64
    seconds, and `registers` (r, k, d) of a model that has them.

  Raises:
    UserError: If a frame vector has no direction or is not finite.
  """
  if retriever.is_free:
    return retriever.rows(features, times=times, start=start, duration=duration)
  data = retriever.stored['config']['data']
  batch = _pooled(np.asarray(features, np.float64), data)
  encoding, registers = jax.tree.map(
    np.asarray, _program(retriever.model)(retriever.variables, batch)
  )
  mask = encoding.frame_mask
  count = int(mask.sum())
  edges = np.minimum(np.arange(mask.shape[1] + 1) / count, 1)
  sizes = batch.get('clip_sizes', np.ones(encoding.clip_tokens.shape[:2]))
  found = {
    'clip_tokens': np.asarray(encoding.clip_tokens, np.float32),
    'frame_tokens': np.asarray(encoding.frame_tokens, np.float32),
    'frame_mask': mask,
    'clip_edges': clip_edges(sizes).astype(np.float32),
    'frame_edges': edges[None].astype(np.float32),
    'starts': np.array([start]),
    'durations': np.array([duration]),
  }
  if registers is not None:
    found['registers'] = np.asarray(registers, np.float32)
  return found


def _pooled(
  features: Float[np.ndarray, 'n d'], data: dict[str, Any]
) -> dict[str, np.ndarray]:
  """Returns the inputs of a model, a batch of one, padded to static shapes.

  Args:
    features: Frame vectors, float64.
    data: The config's section `data`.
  """
  most, more = data['max_frames'], {}
  if data.get('clips') == 'merged':
    clips, frames, plan = merging.merge_video(features, data['merge_threshold'])
    more['clip_sizes'] = plan[:1].astype(np.int32)
  else:
    clips = pooling.clip_features(features, data['num_clips'])
    frames = pooling.frame_features(features, most)
  short = most - len(frames)
  return {
    'clip_features': clips[None],
    'frame_features': np.pad(frames, ((0, short), (0, 0)))[None],
    'frame_mask': (np.arange(most) < len(frames))[None],
    **more,
  }


@functools.lru_cache(maxsize=4)
def _program(model: Model) -> Callable[..., Any]:
  """Returns the jitted program from (variables, inputs) to a video's encoding
  and its registers, None where the model has none."""
  return jax.jit(
    lambda variables, batch: model.apply(
      variables, **batch, method='encode_video_and_registers'
    )
  )
