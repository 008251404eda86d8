"""Features of any known form: one array for each id, read one at a time.

The forms:
  a folder   .npy and .npz files, the id is the file's stem; an .npz has one
             array, or one called `features` or `last_hidden_state`
  .h5 .hdf5  one root-level dataset for each id
  .npz       one array for each id
An HDF5 file may also be an index of TF-PRVR: then the arrays are moments.
Nothing is ever unpickled.
"""

import collections
import pathlib
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import tqdm

from data_pipeline.errors import ArrayError, DataError, unreadable
from data_pipeline.hdf5_file import HDF5_SUFFIXES, Hdf5Arrays
from data_pipeline.importers import layout, tf_prvr
from data_pipeline.limits import Claim, Limits, disk_size, memory_problem
from data_pipeline.npz import Npz, npy_claim, read_npy
from dreamprvr_jax import text
from dreamprvr_jax.host_memory import available_memory

# Names in an .npz of one item; the features released with QVHighlights have
# the words of CLIP under the second.
_KEYS = ('features', 'last_hidden_state')


class _Store(Protocol):
  """Arrays by id; both methods raise ArrayError for a bad array."""

  ids: list[str]

  def claim(self, name: str) -> Claim: ...

  def read(self, name: str) -> np.ndarray: ...


class Features:
  """The matrices of one source; problems of single ones are listed.

  Attributes:
    path: The folder or file.
    form: 'folder', 'hdf5', 'npz', or 'tf-prvr-v2' for moments.
    ids: Ids of all arrays, also of bad ones, in NFC and sorted.
    width: Width of most good matrices.
    problems: Problems of shapes and types, by id.
    rows: Number of rows of good matrices, by id.
  """

  def __init__(
    self,
    path: str | pathlib.Path,
    flat: bool = False,
    progress: bool = True,
    limits: Limits | None = None,
  ):
    """Checks the shape and type of every array; values are not read.

    Args:
      path: A folder or a file.
      flat: Whether (width,) is one row.
      progress: Whether to show a bar on a terminal.
      limits: How far they may unpack; the defaults if not given.

    Raises:
      DataError: If the source is missing, damaged, of no known form or empty,
        or if its arrays together unpack too far.
      TextError: If two ids are the same in NFC.
    """
    self.path = pathlib.Path(path)
    self._flat = flat
    self.form, self._store = _open(self.path)
    # The names in the source, by id.
    self._stored = text.by_normal(self._store.ids, str(path))
    self.ids = sorted(self._stored)
    if not self.ids:
      raise DataError(f'{path} has no features; give {_expected()}')
    self.problems: dict[str, str] = {}
    self.rows: dict[str, int] = {}
    self._progress = progress
    shapes = self._shapes(limits or Limits())
    widths = collections.Counter(shape[1] for shape in shapes.values())
    self.width = widths.most_common(1)[0][0] if widths else 0
    for name, shape in shapes.items():
      if shape[1] == self.width:
        self.rows[name] = shape[0]
      else:
        self.problems[name] = (
          f'has the width {shape[1]} where most have {self.width}'
        )

  def _shapes(self, limits: Limits) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of good arrays, and lists the problems of the
    others."""
    claims: dict[str, Claim] = {}
    available = available_memory()
    for name in self._bar(self.ids, 'opening'):
      if text.surrogate(name):
        self.problems[name] = 'has a name that is not UTF-8 text; rename it'
        continue
      try:
        claim = self._store.claim(self._stored[name])
      except ArrayError as error:
        self.problems[name] = str(error)
        continue
      if self._flat and len(claim.shape) == 1:
        claim = claim._replace(shape=(1, *claim.shape))
      problem = layout.shape_problem(claim.shape, claim.dtype) or (
        memory_problem(claim, available)
      )
      if problem:
        self.problems[name] = problem
      else:
        claims[name] = claim
    size = sum(map(disk_size, self._sources(claims)))
    self.problems |= limits.excess(claims, size, str(self.path))
    return {
      name: claim.shape
      for name, claim in claims.items()
      if name not in self.problems
    }

  def __contains__(self, name: str) -> bool:
    return name in self.rows or name in self.problems

  def read(self, name: str) -> np.ndarray:
    """Returns a (rows, width) matrix in its stored precision.

    Raises:
      DataError: If it cannot be read or is bad.
    """
    if name in self.problems:
      raise DataError(f'{self.path}: {name!r} {self.problems[name]}')
    try:
      matrix = self._store.read(self._stored[name])
    except ArrayError as error:
      raise DataError(f'{self.path}: {name!r} {error}') from None
    if self._flat and matrix.ndim == 1:
      matrix = matrix[None]
    problem = layout.matrix_problem(matrix, self.width)
    if problem:
      raise DataError(f'{self.path}: {name!r} {problem}')
    return matrix

  def check_values(self) -> dict[str, str]:
    """Reads every good matrix; returns problems of values, by id."""
    found = {}
    for name in self._bar(list(self.rows), 'reading'):
      try:
        self.read(name)
      except DataError as error:
        found[name] = str(error).removeprefix(f'{self.path}: {name!r} ')
    return found

  @property
  def moments(self) -> tf_prvr.MomentArrays | None:
    """The index of moments that they come from; None for frames."""
    store = self._store
    return store if isinstance(store, tf_prvr.MomentArrays) else None

  def edges(self, name: str) -> np.ndarray:
    """Returns the borders of a video's moments, see `tf_prvr.MomentArrays`.

    Raises:
      DataError: If they are missing or bad.
    """
    assert self.moments is not None
    try:
      return self.moments.edges(self._stored[name])
    except ArrayError as error:
      raise DataError(f'{self.path}: {name!r} {error}') from None

  def files(self) -> list[pathlib.Path]:
    """Returns the files of all arrays."""
    return self._sources(self.ids)

  def _sources(self, names: Iterable[str]) -> list[pathlib.Path]:
    """Returns the files of some arrays."""
    if isinstance(self._store, _Folder):
      return [self._store.paths[self._stored[name]] for name in names]
    return [self.path]

  def _bar(self, names: list[str], what: str) -> Iterable[str]:
    return tqdm.tqdm(
      names,
      desc=f'{what} {self.path.name}',
      disable=None if self._progress else True,
      delay=1,
    )


def _open(path: pathlib.Path) -> tuple[str, _Store]:
  ending = path.suffix.lower()
  if path.is_dir():
    return 'folder', _Folder(path)
  if not path.exists():
    raise DataError(f'{path} is missing; give {_expected()}')
  if path.is_file():
    if ending in HDF5_SUFFIXES and tf_prvr.is_index(path):
      return tf_prvr.INDEX, tf_prvr.MomentArrays(path)
    if ending in HDF5_SUFFIXES:
      return 'hdf5', Hdf5Arrays(path)
    if ending == '.npz':
      return 'npz', Npz(path, str(path))
  raise DataError(f'{path} is of no known form; give {_expected()}')


def _expected() -> str:
  return (
    'a folder with one .npy or .npz file for each id, or an .h5, .hdf5 or .npz '
    'file with one array for each id'
  )


class _Folder:
  """A folder with one file for each id."""

  def __init__(self, path: pathlib.Path):
    self.paths: dict[str, pathlib.Path] = {}
    for file in sorted(path.iterdir()):
      if file.suffix not in ('.npy', '.npz') or file.name.startswith('.'):
        continue
      if file.stem in self.paths:
        raise DataError(
          f'{path} has {self.paths[file.stem].name} and {file.name}, so the '
          f'features of {file.stem!r} are ambiguous; move one away'
        )
      self.paths[file.stem] = file
    self.ids = list(self.paths)

  def claim(self, name: str) -> Claim:
    path = self._file(name)
    try:
      if path.suffix == '.npy':
        return npy_claim(path)
      with _of_one_item(path) as store:
        return store.claim(_only(store.ids))
    except OSError as error:
      raise ArrayError(unreadable(error)) from None

  def read(self, name: str) -> np.ndarray:
    path = self._file(name)
    try:
      if path.suffix == '.npy':
        return read_npy(path)
      with _of_one_item(path) as store:
        return store.read(_only(store.ids))
    except OSError as error:
      raise ArrayError(unreadable(error)) from None

  def _file(self, name: str) -> pathlib.Path:
    path = self.paths[name]
    # Opening a pipe would wait for a writer.
    if not path.is_file():
      raise ArrayError('is not a file, or a link to nothing; remove it')
    return path


def _of_one_item(path: pathlib.Path) -> Npz:
  try:
    return Npz(path, 'the file')
  except DataError as error:
    raise ArrayError(f'is damaged: {error}') from None


def _only(names: list[str]) -> str:
  """Returns the name of the array with an item's features."""
  if len(names) == 1:
    return names[0]
  for key in _KEYS:
    if key in names:
      return key
  raise ArrayError(
    f'cannot be used: it has the arrays {", ".join(names[:9]) or "none"}, '
    f'expected one, or one called {_KEYS[0]}'
  )
