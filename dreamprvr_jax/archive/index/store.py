"""The rows of an index: ids, and arrays that are read on demand."""

import os
import pathlib
import stat
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.archive.index import checksums
from dreamprvr_jax.archive.index.array_files import Rows
from dreamprvr_jax.archive.index.files import DamagedError, allow_files
from dreamprvr_jax.archive.index.layout import (
  IDS,
  Sources,
  array_specs,
  dequantize,
  read_ids,
)
from dreamprvr_jax.archive.index.manifest import (
  MANIFEST,
  SEGMENTS,
  Manifest,
  Segment,
)
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained import kept
from dreamprvr_jax.trained.retriever import Retriever

# Files that the process opens beside those of an index, at most.
_OTHERS = 200


class Store:
  """Rows of an index: those of its segments, one after the other.

  Attributes:
    directory: The folder of the index.
    manifest: Its manifest.
    ids: Id of each row's video.
    items: (rows,) int32, the row's own number, -1 where it was removed.
    groups: (rows,) int32, the number of the row's video, -1 where it was
      removed. Videos are numbered in the order of their rows, from 0.
  """

  def __init__(self, directory: os.PathLike[str] | str):
    """Opens the files, and compares small ones with their checksums; reads no
    token of a large one yet.

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
    files = len(self.manifest.segments) * (len(self._specs) + 1)
    if not allow_files(files + _OTHERS):
      raise UserError(
        f'{self.directory} has {len(self.manifest.segments):,} segments of '
        f'{len(self._specs) + 1} files, more than the system lets one process '
        'open; raise that limit (ulimit -Hn), or index the videos again'
      )
    self._arrays: dict[str, list[Rows]] = {n: [] for n in self._specs}
    self.ids: list[str] = []
    self._sources: list[Sources] = []
    items = []
    for segment in self.manifest.segments:
      self._folder(SEGMENTS)
      folder = self._folder(SEGMENTS, segment.name)
      for name, (shape, dtype) in self._specs.items():
        shape = (segment.rows, *shape)
        found = Rows(folder / f'{name}.npy').require(shape, np.dtype(dtype))
        self._arrays[name].append(found)
      self._sources.append(Sources(folder))
      ids = read_ids(folder / IDS)
      if len(ids) != segment.rows:
        raise DamagedError(
          folder / IDS,
          f'has {len(ids)} ids where {segment.rows} were expected',
        )
      self._check_files(folder, segment)
      rows = np.arange(len(self.ids), len(self.ids) + len(ids), dtype=np.int32)
      rows[list(segment.removed)] = -1
      items.append(rows)
      self.ids += ids
    self.items = np.concatenate(items) if items else np.zeros(0, np.int32)
    ends = np.cumsum([segment.rows for segment in self.manifest.segments])
    self._starts = np.concatenate([[0], ends]).astype(np.int64)
    self._group()

  def _check_files(self, folder: pathlib.Path, segment: Segment) -> None:
    """Raises DamagedError if a small file of a segment is damaged, or a large
    one has another size; earlier versions wrote no checksums."""
    if not segment.files:
      return
    names = {IDS, *(f'{name}.npy' for name in self._specs)}
    unknown = sorted(names - segment.files.keys())
    if unknown:
      raise DamagedError(
        self.directory / MANIFEST,
        f'has no checksum of {unknown[0]} of {segment.name}',
      )
    checksums.check(folder, segment.files, small_only=True)

  def _group(self) -> None:
    """Finds which rows belong to one video.

    Raises:
      DamagedError: If a video has rows in several places, or lacks some.
    """
    self.groups = np.full(len(self), -1, np.int32)
    self._rows_of: dict[str, range] = {}
    alive = self.items >= 0
    for number, segment in enumerate(self.manifest.segments):
      first, count = int(self._starts[number]), len(self._rows_of)
      for rows in self._runs(first, first + segment.rows):
        name, here = self.ids[rows.start], alive[rows.start : rows.stop]
        if not here.any():
          continue
        if name in self._rows_of:
          raise DamagedError(self.directory, f'has the video {name!r} twice')
        if not here.all():
          raise DamagedError(
            self.directory, f'has only some rows of the video {name!r}'
          )
        self.groups[rows.start : rows.stop] = len(self._rows_of)
        self._rows_of[name] = rows
      found = len(self._rows_of) - count
      if found != segment.videos:
        raise DamagedError(
          self.directory / MANIFEST,
          f'names {segment.videos} videos of {segment.name}, which has {found}',
        )

  def _runs(self, start: int, stop: int) -> Iterator[range]:
    """Yields the stretches of rows with one id; without `parts`, each row."""
    first = start
    for row in range(start + 1, stop + 1):
      same = row < stop and self.ids[row] == self.ids[first]
      if not (same and self.manifest.parts):
        yield range(first, row)
        first = row

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

  def __len__(self) -> int:
    """The number of rows, with removed ones."""
    return len(self.ids)

  @property
  def kind(self) -> str:
    """What exact scores are computed from: 'float16' or 'int8'."""
    return self.manifest.tokens.partition('+')[0]

  def has(self, name: str) -> bool:
    """Returns whether the index has an array."""
    return name in self._specs

  @property
  def videos(self) -> int:
    """How many videos were not removed."""
    return len(self._rows_of)

  def rows_of(self) -> dict[str, range]:
    """Returns {id: rows} of the videos that were not removed, in the order of
    the rows."""
    return dict(self._rows_of)

  def rows_of_video(self, name: str) -> range:
    """Returns the rows of a video that was not removed."""
    return self._rows_of[name]

  def sources(
    self, segments: Iterable[int] | None = None
  ) -> list[dict[str, Any]]:
    """Returns what is known of the files of the videos that were not removed.

    Each has the `id` of its video; videos of unknown origin are missing.

    Args:
      segments: Numbers of the segments; all if None.

    Raises:
      DamagedError: If a file of the index is damaged.
    """
    found = []
    named = self.manifest.segments
    for number in range(len(named)) if segments is None else segments:
      first, segment = int(self._starts[number]), named[number]
      for row in self._sources[number].read():
        rows = self._rows_of.get(row['id'], range(0))
        if first <= rows.start < first + segment.rows and rows:
          found.append(row)
    return found

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
    """Returns the tokens of some rows, float32."""
    read = lambda name: self.take(f'{branch}_{name}', rows)
    if self.kind == 'float16':
      return read('tokens').astype(np.float32)
    return dequantize(read('codes'), read('scales'))

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
    retriever = retriever_of(store.manifest, retriever)
  check_retriever(store, retriever)
  return store, retriever


def retriever_of(manifest: Manifest, checkpoint: str = '') -> Retriever:
  """Returns the retriever that a manifest names.

  Args:
    manifest: The manifest.
    checkpoint: The folder of its checkpoint, if it is elsewhere now.

  Raises:
    UserError: If the manifest does not describe a retriever.
    CheckpointError: If the checkpoint cannot be loaded.
  """
  if manifest.retriever and not checkpoint:
    return Retriever.from_facts(manifest.retriever)
  place = checkpoint or manifest.checkpoint
  found = kept.find(place, manifest.digest)
  return found or kept.keep(Retriever.load(place))


def check_retriever(store: Store, retriever: Retriever) -> None:
  """Raises UserError unless an index was made with these weights."""
  manifest = store.manifest
  if manifest.digest != retriever.digest:
    raise UserError(
      f'{store.directory} was made with the checkpoint {manifest.checkpoint} '
      f'(weights {manifest.digest}), not with {retriever.checkpoint} (weights '
      f'{retriever.digest}); give the former as --checkpoint, or index again'
    )
