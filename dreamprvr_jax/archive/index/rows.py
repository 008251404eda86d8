"""A stretch of a video as rows of an index, for every retriever."""

import functools
import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from data_pipeline import merging, pooling
from dreamprvr_jax.archive.index.encoding import arrays_of, program
from dreamprvr_jax.trained.retriever import Retriever

# A stretch is a batch of one, so one device encodes it.
_program = functools.lru_cache(maxsize=4)(program)


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
  return {
    **arrays_of(encoding, registers, batch.get('clip_sizes')),
    'starts': np.array([start]),
    'durations': np.array([duration]),
  }


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
