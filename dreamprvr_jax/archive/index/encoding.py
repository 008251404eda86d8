"""Videos, and stretches of them, as rows of an index."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from data_pipeline import merging, pooling
from dreamprvr_jax import text
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.trained.retriever import Retriever
from dreamprvr_jax.types import VideoEncoding


@dataclasses.dataclass(frozen=True)
class Videos:
  """Videos to add to an index.

  Attributes:
    ids: Their ids, all different.
    durations: Their seconds, NaN where unknown.
    batches: Starts a pass over their features, in the order of `ids`. Yields
      dicts of `clip_features` (b, c, e), `frame_features` (b, f, e),
      `frame_mask` (b, f), `video_mask` (b,), which is False for padding at the
      end, and, for merged clips, `clip_sizes` (b, c), and, for frames of
      unequal length, `frame_edges` (b, f + 1).
  """

  ids: Sequence[str]
  durations: Float[np.ndarray, ' v']
  batches: Callable[[], Iterable[Mapping[str, np.ndarray]]]

  def named(self) -> 'Videos':
    """Returns the videos with ids in NFC, the form that an index stores.

    Raises:
      UserError: If an id is not valid text.
    """
    return dataclasses.replace(self, ids=[id_of(name) for name in self.ids])


def id_of(name: str) -> str:
  """Returns a video's id in NFC, the form that an index stores.

  Raises:
    UserError: If it is not valid text.
  """
  return text.check(name, f'the id {name!r} of a video')


def encoded_rows(
  retriever: Retriever,
  batches: Callable[[], Iterable[Mapping[str, np.ndarray]]],
  mesh: Mesh | None,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields the arrays of some videos, by name; see `layout.row_specs`.

  Padding is left out, and `durations` are missing. Each row is a whole video.

  Args:
    retriever: Encodes the videos.
    batches: See `Videos`.
    mesh: Devices that encode; all if None.
  """
  mesh = mesh or meshes.make_mesh()
  variables = meshes.replicate(retriever.variables, mesh)
  encode = program(retriever.model, mesh)
  names = ('clip_features', 'frame_features', 'frame_mask', 'clip_sizes')
  for batch in batches():
    real = np.asarray(batch['video_mask'])
    # The devices share a batch evenly.
    short = -len(real) % mesh.size
    inputs = {
      name: np.pad(
        batch[name], ((0, short), *((0, 0),) * (batch[name].ndim - 1))
      )
      for name in names
      if name in batch
    }
    encoding, registers = jax.tree.map(
      lambda x, real=real: np.asarray(x)[: len(real)][real],
      encode(variables, inputs),
    )
    sizes = batch.get('clip_sizes')
    rows = arrays_of(
      encoding, registers, None if sizes is None else np.asarray(sizes)[real]
    )
    if 'frame_edges' in batch:
      rows['frame_edges'] = np.asarray(batch['frame_edges'])[real]
    count = int(real.sum())
    rows['starts'] = np.zeros(count)
    rows['cores'] = np.tile(np.array([0, 1], np.float32), (count, 1))
    yield rows


# Kept, so that the next caller with the same model finds it traced.
@functools.lru_cache(maxsize=4)
def program(model: Model, mesh: Mesh | None = None) -> Callable[..., Any]:
  """Returns the jitted program from (variables, features by name) to the
  encoding of videos and their registers, None where the model has none.

  Args:
    model: The model.
    mesh: Devices that share the videos; None for one device.
  """

  def encode(variables, inputs):
    return model.apply(variables, **inputs, method='encode_video_and_registers')

  if mesh is None:
    return jax.jit(encode)
  return jax.jit(
    encode, in_shardings=(meshes.replicated(mesh), meshes.by_row(mesh))
  )


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
  # A batch of one is encoded by one device.
  encoding, registers = jax.tree.map(
    np.asarray, program(retriever.model)(retriever.variables, batch)
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


def arrays_of(
  encoding: VideoEncoding,
  registers: Float[np.ndarray, 'r k d'] | None,
  sizes: Float[np.ndarray, 'r c'] | None,
) -> dict[str, np.ndarray]:
  """Returns what a program made of r stretches as rows of an index, without
  their times; see `layout.row_specs`.

  Args:
    encoding: Their tokens and masks.
    registers: Their registers; None if the model has none.
    sizes: Frames in each clip; None if the clips are of equal length.
  """
  mask = np.asarray(encoding.frame_mask)
  if sizes is None:
    sizes = np.ones(encoding.clip_tokens.shape[:2])
  found = {
    'clip_tokens': np.asarray(encoding.clip_tokens, np.float32),
    'frame_tokens': np.asarray(encoding.frame_tokens, np.float32),
    'frame_mask': mask,
    'clip_edges': clip_edges(sizes).astype(np.float32),
    'frame_edges': frame_edges(mask),
  }
  if registers is not None:
    found['registers'] = np.asarray(registers, np.float32)
  return found


def frame_edges(mask: Bool[np.ndarray, 'b f']) -> Float[np.ndarray, 'b f+1']:
  """Returns the borders of real frames that share their stretch evenly, as
  fractions of it, float32; 1 at padded frames."""
  counts = np.maximum(mask.sum(axis=1, keepdims=True), 1)
  places = np.arange(mask.shape[1] + 1)
  return np.minimum(places / counts, 1).astype(np.float32)


class TokensError(UserError):
  """Tokens of a video cannot be stored."""


def finite(tokens: np.ndarray, kind: str, where: str) -> np.ndarray:
  """Returns tokens as float32; raises TokensError unless they are finite as
  float16."""
  found = np.asarray(tokens, np.float32)
  if not np.abs(found).max(initial=0) <= np.finfo(np.float16).max:
    raise TokensError(
      f'{kind} tokens of {where} are not finite as float16; check their '
      'features and the checkpoint'
    )
  return found


def clip_edges(sizes: Float[np.ndarray, 'b c']) -> Float[np.ndarray, 'b c+1']:
  """Returns the borders of clips as fractions of their video, float64, from the
  numbers of frames in each clip."""
  ends = np.cumsum(sizes, axis=1, dtype=np.float64)
  return np.pad(ends / ends[:, -1:], ((0, 0), (1, 0)))
