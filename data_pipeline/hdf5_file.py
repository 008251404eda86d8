"""Datasets of an HDF5 file, read by any number of threads and processes."""

import math
import os
import pathlib
import threading

import h5py
import numpy as np

from data_pipeline.errors import ArrayError, DataError, unreadable
from data_pipeline.hdf5_claims import (
  HDF5_ERRORS,
  Stored,
  examine,
  open_dataset,
  require_honest_chunks,
)
from data_pipeline.limits import Claim, no_memory, require_memory

# File endings.
HDF5_SUFFIXES = ('.h5', '.hdf5')
# One lock for the process: HDF5 cannot be shared in any other way.
_LOCK = threading.Lock()


# Bytes read at a time: macOS refuses 2 GiB.
_PART = 2**30


class Hdf5File:
  """The root-level datasets of one file; `hdf5_claims` says which are refused.

  Values in one piece, as in the releases, are read at their byte offset without
  the HDF5 library and its global lock; chunked or compressed ones go through
  h5py.
  """

  def __init__(self, path: pathlib.Path):
    """Opens nothing yet."""
    self.path = path
    # Identity of the file that was opened first: the checks of its datasets
    # hold for no other file.
    self._state: tuple[int, ...] | None = None
    self._handles()

  def _handles(self):
    self._file: h5py.File | None = None
    self._descriptor: int | None = None
    self._opening = threading.Lock()

  def names(self) -> list[str]:
    """Returns the names at the root, including groups and links; bytes that
    are not UTF-8 become lone surrogates.

    Raises:
      DataError: If the file is missing, damaged or not HDF5.
    """
    with _LOCK:
      file = self._opened()
      try:
        names: list[str | bytes] = list(file)
      except HDF5_ERRORS as error:
        raise self._damaged(error) from None
    # h5py gives names that are not UTF-8 as bytes.
    return [
      name.decode('utf-8', 'surrogateescape')
      if isinstance(name, bytes)
      else name
      for name in names
    ]

  def find(self, name: str) -> Stored | None:
    """Returns the dataset with a name; None if the file has no such name.

    Raises:
      ArrayError: If it is not a dataset of this file, or claims values that
        the file does not have.
      DataError: If the file is missing, damaged or not HDF5.
    """
    with _LOCK:
      file = self._opened()
      dataset = open_dataset(file, name)
      return None if dataset is None else examine(dataset, name, self.size)

  @property
  def size(self) -> int:
    """Bytes of the file."""
    return self.path.stat().st_size

  def read(self, stored: Stored, max_rows: int | None = None) -> np.ndarray:
    """Returns a dataset, or its first rows, in its stored precision.

    Raises:
      ArrayError: If its values are damaged or do not fit into memory.
      DataError: If the file ends before they do, or is gone.
    """
    claim, shape = stored.claim, stored.claim.shape
    if max_rows is not None and shape:
      shape = (min(shape[0], max_rows), *shape[1:])
    require_memory(claim)
    if not math.prod(shape):
      return np.zeros(shape, claim.dtype.newbyteorder('='))
    if stored.offset >= 0:
      size = math.prod(shape) * claim.dtype.itemsize
      raw = self._read_bytes(stored.name, stored.offset, size)
      array = np.frombuffer(raw, claim.dtype).reshape(shape)
    else:
      array = self._read_locked(stored, max_rows)
    return array.astype(claim.dtype.newbyteorder('='), copy=False)

  def close(self) -> None:
    """Closes the file; the next reading opens it again."""
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
    # Another process opens the file itself.
    return {'path': self.path, 'state': self._state}

  def __setstate__(self, state):
    self.__init__(state['path'])
    self._state = state['state']

  def _opened(self) -> h5py.File:
    """Returns the open file; the caller holds the lock."""
    if self._file is None:
      try:
        # Not locked: the file may be on a read-only or network disk.
        file = h5py.File(self.path, 'r', locking=False)
      except FileNotFoundError:
        raise DataError(
          f'{self.path} is missing; unpack the release again'
        ) from None
      except PermissionError:
        raise DataError(
          f'{self.path} may not be read; change its permissions'
        ) from None
      except HDF5_ERRORS as error:
        raise self._damaged(error) from None
      try:
        self._require_same(self.path.stat())
      except BaseException:
        file.close()
        raise
      self._file = file
    return self._file

  def _require_same(self, stat: os.stat_result) -> None:
    """Raises DataError unless a file is the one that was opened first."""
    # Not its device, whose number differs between machines.
    state = stat.st_ino, stat.st_size, stat.st_mtime_ns
    self._state = self._state or state
    if state != self._state:
      raise DataError(
        f'{self.path} was written again after it was opened; start the command '
        'again'
      )

  def _damaged(self, error: Exception) -> DataError:
    return DataError(
      f'{self.path} ({self.size} bytes) cannot be read as HDF5: {error}; the '
      'file is truncated or damaged, copy or unpack it again'
    )

  def _read_bytes(self, name: str, offset: int, size: int) -> bytes:
    if self._descriptor is None:
      with self._opening:
        if self._descriptor is None:
          flags = os.O_RDONLY | getattr(os, 'O_BINARY', 0)
          self._descriptor = os.open(self.path, flags)
    self._require_same(os.fstat(self._descriptor))
    parts = []
    while size > 0:
      part = self._read_part(self._descriptor, offset, size)
      if not part:
        raise DataError(
          f'{self.path} ends before the values of {name!r} do; the file is '
          'truncated, copy or unpack it again'
        )
      parts.append(part)
      offset, size = offset + len(part), size - len(part)
    return parts[0] if len(parts) == 1 else b''.join(parts)

  def _read_part(self, descriptor: int, offset: int, size: int) -> bytes:
    try:
      if hasattr(os, 'pread'):
        return os.pread(descriptor, min(size, _PART), offset)
      with self._opening:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, min(size, _PART))
    except MemoryError:
      raise no_memory(size) from None

  def _read_locked(self, stored: Stored, max_rows: int | None) -> np.ndarray:
    with _LOCK:
      # Follow the name again, link by link: the file may have changed.
      found = open_dataset(self._opened(), stored.name)
      if found is None:
        raise ArrayError('is no longer in the file; start again')
      require_honest_chunks(found)
      rows = slice(max_rows) if stored.claim.shape else ()
      try:
        return h5py.Dataset(found)[rows]
      except HDF5_ERRORS as error:
        raise ArrayError(unreadable(error)) from None
      except MemoryError:
        raise no_memory(stored.claim.unpacked) from None


class Hdf5Arrays:
  """All root-level datasets of a file, with the methods of `npz.Npz`.

  Attributes:
    ids: Names of the datasets, and of groups and links, which cannot be read.
  """

  def __init__(self, path: pathlib.Path):
    """Opens a file.

    Raises:
      DataError: If it is missing, damaged or not HDF5.
    """
    self._file = Hdf5File(path)
    self.ids = self._file.names()
    self._found: dict[str, Stored] = {}

  def claim(self, name: str) -> Claim:
    """Returns the claim of a dataset.

    Raises:
      ArrayError: If it is not one, or not all of it is in the file.
    """
    found = self._file.find(name)
    if found is None:
      raise ArrayError('is not a dataset; remove it')
    self._found[name] = found
    return found.claim

  def read(self, name: str) -> np.ndarray:
    """Returns a dataset; its claim must have been read before.

    Raises:
      ArrayError: If it is damaged or does not fit into memory.
      DataError: If the file has become shorter.
    """
    return self._file.read(self._found[name])

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()
