"""Features of any known form: one array an id, read one at a time.

Three forms are known:
  a folder   of .npy and .npz files, the id is the file's stem; an .npz holds
             one array, or one of them is called `features` or
             `last_hidden_state`
  .h5 .hdf5  one root-level dataset an id
  .npz       one array an id
Nothing that a file holds is ever unpickled.
"""

import collections
import pathlib
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO, Protocol

import h5py
import numpy as np
import tqdm

from data_pipeline.errors import DataError
from data_pipeline.hdf5 import names_in, stored_name
from data_pipeline.importers import layout
from dreamprvr_jax import text

# Names in an .npz of one item; the second is that of CLIP's words in the
# features released with QVHighlights.
_KEYS = ('features', 'last_hidden_state')
_HDF5 = ('.h5', '.hdf5')
_HEADERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}
# What reading a damaged file raises, by the libraries' books and by trial.
_READING = (
  OSError,
  ValueError,
  KeyError,
  EOFError,
  RuntimeError,
  NotImplementedError,
  MemoryError,
  zlib.error,
  zipfile.BadZipFile,
)

Header = tuple[tuple[int, ...], np.dtype]


class _Store(Protocol):
  """Arrays by id; reading raises one of `_READING` on damage."""

  ids: list[str]

  def header(self, name: str) -> Header: ...

  def read(self, name: str) -> np.ndarray: ...


class Features:
  """The matrices of one source; what is wrong with them is told, not raised.

  Attributes:
    path: The folder or file.
    form: 'folder', 'hdf5' or 'npz'.
    ids: Of all arrays, in NFC and sorted, bad ones too.
    width: Of most of the good ones.
    problems: What is wrong, by id, from shapes and types alone.
    rows: Of the good ones, by id.
  """

  def __init__(
    self,
    path: str | pathlib.Path,
    flat: bool = False,
    progress: bool = True,
  ):
    """Looks at the shape and type of every array; values are not read.

    Args:
      path: A folder or a file.
      flat: Whether (width,) is one row.
      progress: Show a progress bar on a terminal.

    Raises:
      DataError: If the source is missing, damaged, of no known form or empty.
      TextError: If two ids are the same in NFC.
    """
    self.path = pathlib.Path(path)
    self._flat = flat
    self.form, self._store = _open(self.path)
    # Names as they are stored, by id.
    self._stored = text.by_normal(self._store.ids, str(path))
    self.ids = sorted(self._stored)
    if not self.ids:
      raise DataError(f'{path} holds no features; give {_expected()}')
    self.problems: dict[str, str] = {}
    self.rows: dict[str, int] = {}
    self._progress = progress
    shapes: dict[str, tuple[int, ...]] = {}
    for name in self._bar(self.ids, 'opening'):
      try:
        shape, dtype = self._store.header(self._stored[name])
        if flat and len(shape) == 1:
          shape = (1, *shape)
        problem = layout.shape_problem(shape, dtype)
      except _READING as error:
        shape, problem = (), _unreadable(error)
      if problem:
        self.problems[name] = problem
      else:
        shapes[name] = shape
    widths = collections.Counter(shape[1] for shape in shapes.values())
    self.width = widths.most_common(1)[0][0] if widths else 0
    for name, shape in shapes.items():
      if shape[1] == self.width:
        self.rows[name] = shape[0]
      else:
        self.problems[name] = (
          f'has the width {shape[1]} where most have {self.width}'
        )

  def __contains__(self, name: str) -> bool:
    return name in self.rows or name in self.problems

  def read(self, name: str) -> np.ndarray:
    """Returns a (rows, width) matrix in its stored precision.

    Raises:
      DataError: If it cannot be read or is not as it has to be.
    """
    try:
      matrix = self._store.read(self._stored[name])
    except _READING as error:
      raise DataError(f'{self.path}: {name!r} {_unreadable(error)}') from None
    if self._flat and matrix.ndim == 1:
      matrix = matrix[None]
    problem = layout.matrix_problem(matrix, self.width)
    if problem:
      raise DataError(f'{self.path}: {name!r} {problem}')
    return matrix

  def check_values(self) -> dict[str, str]:
    """Reads every good matrix; returns what is wrong with values, by id."""
    found = {}
    for name in self._bar(list(self.rows), 'reading'):
      try:
        self.read(name)
      except DataError as error:
        found[name] = str(error).removeprefix(f'{self.path}: {name!r} ')
    return found

  def files(self) -> list[pathlib.Path]:
    """Returns the files that the numbers come from."""
    if isinstance(self._store, _Folder):
      return [self._store.paths[self._stored[name]] for name in self.ids]
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
  try:
    if path.is_dir():
      return 'folder', _Folder(path)
    if not path.exists():
      raise DataError(f'{path} is missing; give {_expected()}')
    if ending in _HDF5:
      return 'hdf5', _Hdf5(path)
    if ending == '.npz':
      return 'npz', _Npz(path)
  except DataError:
    raise
  except _READING as error:
    raise DataError(
      f'{path} ({path.stat().st_size} bytes) {_unreadable(error)}'
    ) from None
  raise DataError(f'{path} is of no known form; give {_expected()}')


def _expected() -> str:
  return (
    'a folder with one .npy or .npz file an id, an .h5 or .hdf5 file or an '
    '.npz file with one array an id'
  )


def _unreadable(error: BaseException) -> str:
  what = ' '.join(str(error).split())[:160] or type(error).__name__
  return f'cannot be read: {what}; copy or write it again'


def _header(file: BinaryIO | Any) -> Header:
  """Returns the shape and type that an .npy stream begins with."""
  version = np.lib.format.read_magic(file)
  if version not in _HEADERS:
    raise ValueError(f'.npy of version {version}')
  shape, _, dtype = _HEADERS[version](file)
  return shape, dtype


class _Folder:
  """One file an id."""

  def __init__(self, path: pathlib.Path):
    self.paths: dict[str, pathlib.Path] = {}
    for file in sorted(path.iterdir()):
      if file.suffix not in ('.npy', '.npz') or file.name.startswith('.'):
        continue
      if file.stem in self.paths:
        raise DataError(
          f'{path} holds {self.paths[file.stem].name} and {file.name}, so what '
          f'belongs to {file.stem!r} is not clear; move one away'
        )
      self.paths[file.stem] = file
    self.ids = list(self.paths)

  def header(self, name: str) -> Header:
    path = self.paths[name]
    if path.suffix == '.npz':
      store = _Npz(path)
      return store.header(_only(store.ids))
    with path.open('rb') as file:
      return _header(file)

  def read(self, name: str) -> np.ndarray:
    path = self.paths[name]
    if path.suffix == '.npz':
      store = _Npz(path)
      return store.read(_only(store.ids))
    return np.load(path, allow_pickle=False)


def _only(names: list[str]) -> str:
  """Returns the name of the one array that an item's .npz is about."""
  if len(names) == 1:
    return names[0]
  for key in _KEYS:
    if key in names:
      return key
  raise ValueError(
    f'it holds the arrays {", ".join(names) or "none"}, expected one, or '
    f'one called {_KEYS[0]}'
  )


class _Npz:
  """Arrays in a zip file, opened anew for each: one at a time in memory."""

  def __init__(self, path: pathlib.Path):
    self._zip = zipfile.ZipFile(path)
    members = [name for name in self._zip.namelist() if name.endswith('.npy')]
    self.ids = [name.removesuffix('.npy') for name in members]

  def header(self, name: str) -> Header:
    with self._zip.open(f'{name}.npy') as file:
      return _header(file)

  def read(self, name: str) -> np.ndarray:
    with self._zip.open(f'{name}.npy') as file:
      return np.lib.format.read_array(file, allow_pickle=False)


class _Hdf5:
  """Root-level datasets."""

  def __init__(self, path: pathlib.Path):
    # No lock: the file may lie on a read-only or network disk.
    self._file = h5py.File(path, 'r', locking=False)
    self.ids = names_in(self._file)

  def _dataset(self, name: str) -> h5py.Dataset:
    found = self._file[stored_name(name)]
    if not isinstance(found, h5py.Dataset):
      raise ValueError('it is a group where one dataset an id was expected')
    return found

  def header(self, name: str) -> Header:
    dataset = self._dataset(name)
    return dataset.shape, dataset.dtype

  def read(self, name: str) -> np.ndarray:
    return self._dataset(name)[()]
