"""Feature matrices in an HDF5 file, one root-level dataset per id."""

import os
import pathlib
import threading
from collections.abc import Iterable, Sequence

import h5py
import numpy as np
import tqdm

from data_pipeline.errors import DataError
from dreamprvr_jax import text

# One lock for the process: HDF5 itself has no other way to be shared.
_LOCK = threading.Lock()


def names_in(file: h5py.File) -> list[str]:
  """Returns the names at the root; bytes that are not UTF-8 become surrogates,
  as in names of files."""
  names = []
  for name in file:
    if isinstance(name, bytes):
      name = name.decode('utf-8', 'surrogateescape')
    names.append(str(name))
  return names


def stored_name(name: str) -> bytes:
  """Returns the bytes of a name that `names_in` gave."""
  return name.encode('utf-8', 'surrogateescape')


class Hdf5Store:
  """Random access to the (rows, width) matrices of one file.

  The place of every matrix is looked up once. Contiguous matrices, which is
  how the releases are written, are then read at their byte offset without the
  HDF5 library and its global lock, by as many threads and processes as wanted;
  chunked or compressed ones go through h5py.
  """

  def __init__(
    self, path: pathlib.Path, ids: Iterable[str], optional_prefix: str = ''
  ):
    """Looks up `ids`; those without a dataset are simply absent.

    Args:
      path: the file.
      ids: which matrices; a name in the file may be another normal form of
        its id.
      optional_prefix: of the ids; the file's own names may lack it.

    Raises:
      DataError: if the file is missing, truncated or not HDF5.
      TextError: if two names in it are the same id in NFC.
    """
    self.path = pathlib.Path(path)
    self._problems: dict[str, str] = {}
    # Offset or -1, rows, width, dtype, name in the file
    self._entries: dict[str, tuple[int, int, int, str, str]] = {}
    self._handles()
    with self._open() as file:
      names = tqdm.tqdm(
        ids, desc=f'opening {self.path.name}', disable=None, delay=2
      )
      stored: dict[str, str] | None = None
      for name in names:
        forms = (name, name.removeprefix(optional_prefix))
        found = any(self._locate(file.id, name, form) for form in forms)
        if stored is None and not (found and name.isascii()):
          # Names are listed only if they may be composed in another way.
          stored = self._names(file)
        if found or not stored:
          continue
        for form in forms:
          if form in stored and self._locate(file.id, name, stored[form]):
            break

  def _names(self, file: h5py.File) -> dict[str, str]:
    """Returns {id in NFC: name in the file}."""
    try:
      return text.by_normal(names_in(file), str(self.path))
    except (OSError, RuntimeError) as error:
      raise DataError(
        f'the names in {self.path} cannot be read: {error}; the file is '
        'damaged, copy or unpack it again'
      ) from None

  def _handles(self):
    self._file = None
    self._descriptor = None
    self._opening = threading.Lock()

  def _open(self) -> h5py.File:
    try:
      # No lock: the file may lie on a read-only or network disk.
      return h5py.File(self.path, 'r', locking=False)
    except FileNotFoundError:
      raise DataError(
        f'{self.path} is missing; unpack the release again'
      ) from None
    except OSError as error:
      size = self.path.stat().st_size if self.path.exists() else 0
      raise DataError(
        f'{self.path} ({size} bytes) cannot be read as HDF5: {error}; the file '
        'is truncated or damaged, copy or unpack it again'
      ) from None

  def _locate(self, file_id: h5py.h5f.FileID, name: str, stored: str) -> bool:
    """Looks up what is `stored` for an id; returns whether it is there."""
    try:
      dataset = h5py.h5d.open(file_id, stored_name(stored))
    except KeyError:
      return False
    except (ValueError, TypeError, OSError, RuntimeError) as error:
      self._problems[name] = f'cannot be opened in {self.path}: {error}'
      return True
    shape, dtype = dataset.shape, dataset.dtype
    if len(shape) != 2 or dtype.kind != 'f':
      self._problems[name] = (
        f'is {dtype} of shape {tuple(shape)} in {self.path} where a float '
        'matrix (rows, width) was expected'
      )
      return True
    offset = dataset.get_offset()
    self._entries[name] = (
      -1 if offset is None else offset,
      shape[0],
      shape[1],
      dtype.str,
      stored,
    )
    return True

  def __contains__(self, name: str) -> bool:
    return name in self._entries or name in self._problems

  def problem(self, name: str) -> str | None:
    """Returns what is wrong with the matrix of an id that the file has."""
    return self._problems.get(name)

  def shape(self, name: str) -> tuple[int, int]:
    """Returns (rows, width)."""
    return self._entries[name][1:3]

  def read(self, name: str, max_rows: int | None = None) -> np.ndarray:
    """Returns the first rows of a matrix in its stored precision.

    Raises:
      DataError: if the file ends before the matrix does.
    """
    offset, rows, width, kind, stored = self._entries[name]
    dtype = np.dtype(kind)
    if max_rows is not None:
      rows = min(rows, max_rows)
    if offset < 0 or not hasattr(os, 'pread'):
      matrix = self._read_locked(stored, rows)
    else:
      raw = self._read_bytes(name, offset, rows * width * dtype.itemsize)
      matrix = np.frombuffer(raw, dtype).reshape(rows, width)
    return matrix.astype(dtype.newbyteorder('='), copy=False)

  def _read_bytes(self, name: str, offset: int, size: int) -> bytes:
    if self._descriptor is None:
      with self._opening:
        if self._descriptor is None:
          self._descriptor = os.open(self.path, os.O_RDONLY)
    parts = []
    while size > 0:
      part = os.pread(self._descriptor, size, offset)
      if not part:
        raise DataError(
          f'{self.path} ends before the values of {name!r} do; the file is '
          'truncated, copy or unpack it again'
        )
      parts.append(part)
      offset, size = offset + len(part), size - len(part)
    return parts[0] if len(parts) == 1 else b''.join(parts)

  def _read_locked(self, name: str, rows: int) -> np.ndarray:
    with _LOCK:
      if self._file is None:
        self._file = self._open()
      try:
        dataset = self._file[name]
        assert isinstance(dataset, h5py.Dataset)
        return dataset[:rows]
      except OSError as error:
        raise DataError(
          f'the values of {name!r} in {self.path} cannot be read: {error}; '
          'copy or unpack the file again'
        ) from None

  def files(self) -> Sequence[pathlib.Path]:
    """Returns the files that the numbers come from."""
    return [self.path]

  def close(self):
    if self._descriptor is not None:
      os.close(self._descriptor)
    if self._file is not None:
      self._file.close()
    self._handles()

  def __del__(self):
    descriptor = getattr(self, '_descriptor', None)
    if descriptor is not None:
      os.close(descriptor)

  def __getstate__(self):
    # Another process opens its own handles.
    return {
      k: v
      for k, v in self.__dict__.items()
      if k not in ('_file', '_descriptor', '_opening')
    }

  def __setstate__(self, state):
    self.__dict__.update(state)
    self._handles()
