"""Videos as rows of an index."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from dreamprvr_jax import text
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.trained.retriever import Retriever


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
  """Yields the arrays of some videos, by name; see `layout.array_specs`.

  Padding is left out, and `durations` are missing. Each row is a whole video.

  Args:
    retriever: Encodes the videos.
    batches: See `Videos`.
    mesh: Devices that encode; all if None.

  Raises:
    UserError: If tokens are not finite as float16.
  """
  mesh = mesh or meshes.make_mesh()
  variables = meshes.replicate(retriever.variables, mesh)
  program = _program(retriever.model, mesh)
  names = ('clip_features', 'frame_features', 'frame_mask', 'clip_sizes')
  start = 0
  for batch in batches():
    real = np.asarray(batch['video_mask'])
    # The devices share a batch evenly.
    short = -len(real) % mesh.size
    arrays = [
      np.pad(x, ((0, short), *((0, 0),) * (x.ndim - 1)))
      for x in (batch[name] for name in names if name in batch)
    ]
    encoding, registers = jax.tree.map(
      lambda x, real=real: np.asarray(x)[: len(real)][real],
      program(variables, arrays),
    )
    stop = start + int(real.sum())
    where = f'the videos {start} to {stop - 1} (counted from 0)'
    start = stop
    clips = finite(encoding.clip_tokens, 'clip', where)
    frames = finite(encoding.frame_tokens, 'frame', where)
    sizes = batch.get('clip_sizes', np.ones((len(real), clips.shape[1])))
    rows = {
      'clip_edges': clip_edges(np.asarray(sizes)[real]).astype(np.float32),
      'frame_mask': encoding.frame_mask,
      'frame_edges': (
        np.asarray(batch['frame_edges'])[real]
        if 'frame_edges' in batch
        else frame_edges(encoding.frame_mask)
      ),
      'starts': np.zeros(len(clips)),
      'cores': np.tile(np.array([0, 1], np.float32), (len(clips), 1)),
    }
    if registers is not None:
      rows['registers'] = finite(registers, 'register', where)
    rows['clip_tokens'], rows['frame_tokens'] = clips, frames
    yield rows


# Kept, so that the next caller with the same model finds it traced.
@functools.lru_cache(maxsize=4)
def _program(model: Model, mesh: Mesh) -> Callable[..., Any]:
  """Returns the jitted program from (variables, features) to the encoding of
  videos and their registers, None where the model has none."""

  def encode(variables, arrays):
    return model.apply(variables, *arrays, method='encode_video_and_registers')

  return jax.jit(
    encode, in_shardings=(meshes.replicated(mesh), meshes.by_row(mesh))
  )


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
