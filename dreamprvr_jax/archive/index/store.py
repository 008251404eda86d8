"""The rows of an index: ids, and arrays that are read on demand."""

import math
import os
import pathlib
import stat
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax import text
from dreamprvr_jax.archive.index.array_files import (
  DamagedError,
  Rows,
  allow_files,
  open_regular,
)
from dreamprvr_jax.archive.index.codes import (
  CENTRES,
  decode_products,
  dequantize,
)
from dreamprvr_jax.archive.index.manifest import SEGMENTS, Manifest
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever

IDS = 'ids.json'
SOURCES = 'sources.json'
# Files that the process opens beside those of an index, at most.
_OTHERS = 200
BRANCHES = 'clip', 'frame'
# All files that a segment may have.
FILES = frozenset(
  [
    IDS,
    SOURCES,
    *('durations.npy', 'clip_edges.npy', 'frame_mask.npy', 'registers.npy'),
    *(
      f'{branch}_{what}.npy'
      for branch in BRANCHES
      for what in ('tokens', 'codes', 'scales', 'products', 'codebook')
    ),
  ]
)


def codebook_name(branch: str) -> str:
  """Returns the name of the file of a branch's codebook."""
  return f'{branch}_codebook.npy'


def array_specs(manifest: Manifest) -> dict[str, tuple[tuple[int, ...], Any]]:
  """Returns {name: (shape of a row, dtype)} of the arrays of a segment.

  `durations` are seconds, NaN where unknown; `clip_edges` are the borders of
  the clips as fractions of the video. Real frames share the video evenly.
  Tokens are zero at padded frames. `_codes` times `_scales` are tokens, too;
  `_products` are product codes. `registers` exist if the model has them.
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


def stored_bytes(manifest: Manifest) -> int:
  """Returns the bytes of all arrays of an index, with removed rows."""
  rows = sum(segment.videos for segment in manifest.segments)
  return rows * sum(
    math.prod(shape) * np.dtype(dtype).itemsize
    for shape, dtype in array_specs(manifest).values()
  )


class Store:
  """Rows of an index: the videos of its segments, one after the other.

  Attributes:
    directory: The folder of the index.
    manifest: Its manifest.
    ids: Id of each row's video.
    items: (rows,) int32, the row's own number, -1 where it was removed.
    codebooks: {branch: (sub-vectors, centres, length) float32} of the product
      codes; empty if there are none. Each segment has the same.
  """

  def __init__(self, directory: os.PathLike[str] | str):
    """Opens the files; reads no token yet.

    Raises:
      UserError: If there is no index, or a file of it is missing or damaged.
    """
    self.directory = pathlib.Path(directory)
    while True:
      self.manifest = Manifest.read(directory)
      try:
        self._open()
        return
      except DamagedError:
        # Another command may have replaced the manifest, and removed segments
        # that only the former one names.
        if Manifest.read(directory) == self.manifest:
          raise

  def _open(self) -> None:
    """Opens the files that the manifest names."""
    self._specs = array_specs(self.manifest)
    files = len(self.manifest.segments) * len(self._specs)
    if not allow_files(files + _OTHERS):
      raise UserError(
        f'{self.directory} has {len(self.manifest.segments):,} segments of '
        f'{len(self._specs)} files, more than the system lets one process '
        'open; raise that limit (ulimit -Hn), or index the videos again'
      )
    self._arrays: dict[str, list[Rows]] = {n: [] for n in self._specs}
    self.ids: list[str] = []
    items = []
    for segment in self.manifest.segments:
      self._folder(SEGMENTS)
      folder = self._folder(SEGMENTS, segment.name)
      for name, (shape, dtype) in self._specs.items():
        shape = (segment.videos, *shape)
        found = Rows(folder / f'{name}.npy').require(shape, np.dtype(dtype))
        self._arrays[name].append(found)
      ids = read_ids(folder / IDS)
      if len(ids) != segment.videos:
        raise DamagedError(
          folder / IDS,
          f'has {len(ids)} ids where {segment.videos} were expected',
        )
      rows = np.arange(len(self.ids), len(self.ids) + len(ids), dtype=np.int32)
      rows[list(segment.removed)] = -1
      items.append(rows)
      self.ids += ids
    self.codebooks = self._codebooks()
    self.items = np.concatenate(items) if items else np.zeros(0, np.int32)
    ends = np.cumsum([segment.videos for segment in self.manifest.segments])
    self._starts = np.concatenate([[0], ends]).astype(np.int64)
    rows = self.rows_of()
    for row in self.items[self.items >= 0].tolist():
      if rows[self.ids[row]] != row:
        raise DamagedError(
          self.directory, f'has the video {self.ids[row]!r} twice'
        )

  def _folder(self, *names: str) -> pathlib.Path:
    """Returns a folder of the index.

    Raises:
      DamagedError: If it is missing, or a link, which may point anywhere.
    """
    path = self.directory.joinpath(*names)
    try:
      mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
      raise DamagedError(path, 'is missing') from None
    if not stat.S_ISDIR(mode):
      what = 'a link' if stat.S_ISLNK(mode) else 'a file'
      raise DamagedError(path, f'is {what} where a folder was expected')
    return path

  def _codebooks(self) -> dict[str, Float[np.ndarray, 'm k w']]:
    manifest = self.manifest
    if not (manifest.sub_vectors and manifest.segments):
      return {}
    folder = self._folder(SEGMENTS, manifest.segments[0].name)
    length = manifest.width // manifest.sub_vectors
    shape = (manifest.sub_vectors, CENTRES, length)
    found = {}
    for branch in BRANCHES:
      path = folder / codebook_name(branch)
      rows = Rows(path).require(shape, np.dtype(np.float32))
      found[branch] = rows.read(0, manifest.sub_vectors)
      if not np.isfinite(found[branch]).all():
        raise DamagedError(path, 'has numbers that are not finite')
    return found

  def __len__(self) -> int:
    """The number of rows, with removed ones."""
    return len(self.ids)

  @property
  def kind(self) -> str:
    """What exact scores are computed from: 'float16', 'int8' or 'pq'."""
    return self.manifest.tokens.partition('+')[0]

  def has(self, name: str) -> bool:
    """Returns whether the index has an array."""
    return name in self._specs

  def rows_of(self) -> dict[str, int]:
    """Returns {id: row} of the videos that were not removed."""
    return {self.ids[row]: int(row) for row in self.items[self.items >= 0]}

  def sources(self) -> list[dict[str, Any]]:
    """Returns what is known of the files of the videos that were not removed,
    an object for each that has one; see `archive.folder.sources`."""
    known = self.rows_of()
    found = []
    for segment in self.manifest.segments:
      path = self.directory / SEGMENTS / segment.name / SOURCES
      if path.exists():
        with open(open_regular(path), 'rb') as file:
          content = text.decode(file.read(), str(path))
        found += text.parse_json(content, str(path))
    return [row for row in found if row['id'] in known]

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    """Returns consecutive rows of an array; those after the last are zero."""
    shape, dtype = self._specs[name]
    pieces = []
    for first, rows in zip(self._starts, self._arrays[name], strict=False):
      low, high = max(start - int(first), 0), min(stop - int(first), len(rows))
      if low < high:
        pieces.append(rows.read(low, high))
    short = max(stop - max(start, len(self)), 0)
    if short or not pieces:
      pieces.append(np.zeros((short, *shape), dtype))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

  def tokens(
    self, branch: str, rows: Int[np.ndarray, ' k']
  ) -> Float[np.ndarray, 'k s d']:
    """Returns the tokens of some rows, float32; those that come from product
    codes have about unit length."""
    read = lambda name: self.take(f'{branch}_{name}', rows)
    if self.kind == 'float16':
      return read('tokens').astype(np.float32)
    if self.kind == 'int8':
      return dequantize(read('codes'), read('scales'))
    found = decode_products(read('products'), self.codebooks[branch])
    if branch == 'frame':
      found *= self.take('frame_mask', rows)[..., None]
    return found

  def take(self, name: str, rows: Int[np.ndarray, ' k']) -> np.ndarray:
    """Returns a copy of some rows of an array."""
    shape, dtype = self._specs[name]
    found = np.empty((len(rows), *shape), dtype)
    segments = np.searchsorted(self._starts, rows, side='right') - 1
    for number in np.unique(segments):
      here = np.flatnonzero(segments == number)
      own = np.asarray(rows)[here] - self._starts[number]
      array = self._arrays[name][number]
      if len(here) == len(rows):
        array.take(own, found)
      else:
        part = np.empty((len(here), *shape), dtype)
        array.take(own, part)
        found[here] = part
    return found

  def check_finite(
    self, norms: np.ndarray, rows: np.ndarray, name: str
  ) -> None:
    """Raises DamagedError unless all numbers are finite.

    Args:
      norms: (k, ...) numbers computed from some rows, which are not finite
        where a number of the row is not.
      rows: (k,) the rows.
      name: The array that they were read from, for the error.
    """
    bad = ~np.isfinite(norms).reshape(len(norms), -1).all(axis=1)
    bad &= self.items[rows] >= 0
    if bad.any():
      raise self.not_finite(int(rows[np.argmax(bad)]), name)

  def not_finite(self, row: int, name: str) -> DamagedError:
    """Returns the error of a row with numbers that are not finite."""
    number = int(np.searchsorted(self._starts, row, side='right')) - 1
    path = self.directory / SEGMENTS / self.manifest.segments[number].name
    return DamagedError(
      path,
      f'has {name} of the video {self.ids[row]!r} that are not finite',
    )

  def bytes_per_row(self, names: tuple[str, ...]) -> int:
    """Returns the bytes of a row of some arrays."""
    return sum(
      int(np.prod(self._specs[n][0])) * np.dtype(self._specs[n][1]).itemsize
      for n in names
    )


def open_index(
  directory: os.PathLike[str] | str, retriever: Retriever | str = ''
) -> tuple[Store, Retriever]:
  """Opens an index with the retriever that encoded its videos.

  Args:
    directory: The folder of the index.
    retriever: The retriever, or the folder of its checkpoint; '' for the
      checkpoint that the manifest names.

  Raises:
    UserError: If there is no index, it is damaged, or it was made with other
      weights.
    CheckpointError: If the checkpoint cannot be loaded.
  """
  store = Store(directory)
  if isinstance(retriever, str):
    retriever = Retriever.load(retriever or store.manifest.checkpoint)
  check_retriever(store, retriever)
  return store, retriever


def check_retriever(store: Store, retriever: Retriever) -> None:
  """Raises UserError unless an index was made with these weights."""
  manifest = store.manifest
  if manifest.digest != retriever.digest:
    raise UserError(
      f'{store.directory} was made with the checkpoint {manifest.checkpoint} '
      f'(weights {manifest.digest}), not with {retriever.checkpoint} (weights '
      f'{retriever.digest}); give the former as --checkpoint, or index again'
    )


def read_ids(path: pathlib.Path) -> list[str]:
  """Returns the ids in a segment's file, in NFC.

  Raises:
    UserError: If they cannot be read.
  """
  with open(open_regular(path), 'rb') as file:
    content = file.read()
  where = f'the index is damaged: {path}'
  found = text.parse_json(text.decode(content, where), where)
  if not isinstance(found, list):
    raise DamagedError(path, 'is no list of ids')
  for value in found:
    if not isinstance(value, str):
      raise DamagedError(path, f'has {value!r:.40} where an id was expected')
  return [x if x.isascii() else text.check(x, where) for x in found]
