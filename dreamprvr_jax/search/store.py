"""The arrays of an index, memory-mapped."""

import json
import os
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.search.manifest import SEGMENTS, Manifest
from dreamprvr_jax.search.product import CENTRES, decode
from dreamprvr_jax.search.quantization import dequantize

IDS = 'ids.json'


def codebook_name(branch: str) -> str:
  """Returns the file of a segment that holds a branch's codebook."""
  return f'{branch}_codebook.npy'


def array_specs(manifest: Manifest) -> dict[str, tuple[tuple[int, ...], Any]]:
  """Returns {name: (shape of a row, dtype)} of the arrays of a segment.

  `durations` are seconds, NaN where unknown; `clip_edges` the borders of the
  clips as fractions of the video. The frames that are real share the video
  evenly. Tokens are zero at padded frames; `_codes` times `_scales` are
  tokens, too; `_products` are product codes. `registers` are there if the
  model has them.
  """
  specs: dict[str, tuple[tuple[int, ...], Any]] = {
    'durations': ((), np.float64),
    'clip_edges': ((manifest.clips + 1,), np.float32),
    'frame_mask': ((manifest.frames,), np.bool_),
  }
  for branch, count in (('clip', manifest.clips), ('frame', manifest.frames)):
    if 'float16' in manifest.tokens:
      specs[f'{branch}_tokens'] = ((count, manifest.width), np.float16)
    if 'int8' in manifest.tokens:
      specs[f'{branch}_codes'] = ((count, manifest.width), np.int8)
      specs[f'{branch}_scales'] = ((count,), np.float32)
    if manifest.sub_vectors:
      shape = (manifest.sub_vectors, count)
      specs[f'{branch}_products'] = (shape, np.uint8)
  if manifest.registers:
    specs['registers'] = ((manifest.registers, manifest.width), np.float16)
  return specs


class Store:
  """Rows of an index: the videos of its segments, one after the other.

  Attributes:
    directory: Where it is.
    manifest: Its manifest.
    ids: Video of each row.
    items: (rows,) int32, the row's own number, -1 where it was removed.
    codebooks: {branch: (sub-vectors, centres, length) float32} of the product
      codes; empty if there are none. Each segment has the same.
  """

  def __init__(self, directory: os.PathLike[str] | str):
    """Opens the files; no token is read.

    Raises:
      UserError: If there is no index, or a file of it is missing or damaged.
    """
    self.directory = pathlib.Path(directory)
    self.manifest = Manifest.read(directory)
    self._specs = array_specs(self.manifest)
    self._arrays: dict[str, list[np.ndarray]] = {n: [] for n in self._specs}
    self.ids: list[str] = []
    items = []
    for segment in self.manifest.segments:
      folder = self.directory / SEGMENTS / segment.name
      ids = _ids(folder / IDS, segment.videos)
      for name, (shape, dtype) in self._specs.items():
        shape = (segment.videos, *shape)
        found = _array(folder / f'{name}.npy', shape, np.dtype(dtype))
        self._arrays[name].append(found)
      rows = np.arange(len(self.ids), len(self.ids) + len(ids), dtype=np.int32)
      rows[list(segment.removed)] = -1
      items.append(rows)
      self.ids += ids
    self.codebooks = self._codebooks()
    self.items = np.concatenate(items) if items else np.zeros(0, np.int32)
    ends = np.cumsum([segment.videos for segment in self.manifest.segments])
    self._starts = np.concatenate([[0], ends]).astype(np.int64)

  def _codebooks(self) -> dict[str, Float[np.ndarray, 'm k w']]:
    manifest = self.manifest
    if not (manifest.sub_vectors and manifest.segments):
      return {}
    folder = self.directory / SEGMENTS / manifest.segments[0].name
    length = manifest.width // manifest.sub_vectors
    shape = (manifest.sub_vectors, CENTRES, length)
    return {
      branch: _array(
        folder / codebook_name(branch), shape, np.dtype(np.float32)
      )
      for branch in ('clip', 'frame')
    }

  def __len__(self) -> int:
    """The number of rows, removed ones included."""
    return len(self.ids)

  @property
  def kind(self) -> str:
    """What exact scores are computed from: 'float16', 'int8' or 'pq'."""
    return self.manifest.tokens.partition('+')[0]

  def has(self, name: str) -> bool:
    """Returns whether there is such an array."""
    return name in self._specs

  def rows_of(self) -> dict[str, int]:
    """Returns {id: row} of the videos that were not removed."""
    return {self.ids[row]: int(row) for row in self.items[self.items >= 0]}

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    """Returns consecutive rows of an array; rows behind the last are zero."""
    shape, dtype = self._specs[name]
    pieces = []
    for first, array in zip(self._starts, self._arrays[name], strict=False):
      piece = array[max(start - first, 0) : max(stop - first, 0)]
      if len(piece):
        pieces.append(np.asarray(piece))
    short = stop - max(start, len(self))
    if short > 0:
      pieces.append(np.zeros((min(short, stop - start), *shape), dtype))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

  def tokens(
    self, branch: str, rows: Int[np.ndarray, ' k']
  ) -> Float[np.ndarray, 'k s d']:
    """Returns what some rows hold as tokens, float32; those of product codes
    are about of unit length."""
    read = lambda name: self.take(f'{branch}_{name}', rows)
    if self.kind == 'float16':
      return read('tokens').astype(np.float32)
    if self.kind == 'int8':
      return dequantize(read('codes'), read('scales'))
    found = decode(read('products'), self.codebooks[branch])
    if branch == 'frame':
      found *= self.take('frame_mask', rows)[..., None]
    return found

  def take(self, name: str, rows: Int[np.ndarray, ' k']) -> np.ndarray:
    """Returns some rows of an array, a copy."""
    shape, dtype = self._specs[name]
    found = np.empty((len(rows), *shape), dtype)
    segments = np.searchsorted(self._starts, rows, side='right') - 1
    for number in np.unique(segments):
      here = segments == number
      own = rows[here] - self._starts[number]
      found[here] = self._arrays[name][number][own]
    return found

  def bytes_per_row(self, names: tuple[str, ...]) -> int:
    """Returns the bytes of a row of some arrays."""
    return sum(
      int(np.prod(self._specs[n][0])) * np.dtype(self._specs[n][1]).itemsize
      for n in names
    )


def _array(
  path: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
  """Returns a file's array, memory-mapped."""
  try:
    found = np.load(path, mmap_mode='r')
  except FileNotFoundError:
    raise _damaged(path, 'is missing') from None
  except (ValueError, EOFError) as error:
    raise _damaged(path, f'cannot be read ({error})') from error
  if found.shape != shape or found.dtype != dtype:
    raise _damaged(
      path,
      f'is {found.dtype} of shape {found.shape} where {dtype} of shape {shape} '
      'was expected',
    )
  return found


def _ids(path: pathlib.Path, count: int) -> list[str]:
  try:
    found = json.loads(path.read_text())
  except FileNotFoundError:
    raise _damaged(path, 'is missing') from None
  except ValueError as error:
    raise _damaged(path, f'cannot be read ({error})') from error
  if not isinstance(found, list) or len(found) != count:
    raise _damaged(path, f'does not hold {count} ids')
  return list(map(str, found))


def _damaged(path: pathlib.Path, what: str) -> UserError:
  return UserError(
    f'the index is damaged: {path} {what}; restore it from a backup, or index '
    'anew'
  )
