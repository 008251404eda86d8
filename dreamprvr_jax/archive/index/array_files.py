"""The arrays of an index on disk: .npy files, written and read by rows.

Files are read, not mapped into memory. If another program cuts a mapped file,
the kernel ends this process; a read that comes too short is an error.
"""

import io
import math
import os
import pathlib
import re
import weakref
from typing import Any

import numpy as np
from jaxtyping import Int

from dreamprvr_jax.archive.index import checksums
from dreamprvr_jax.archive.index.files import DamagedError, open_regular

# What `ArrayFile` and `numpy.save` write for a plain array, and nothing else.
_HEADER = re.compile(
  rb"\{'descr': '([^']{1,20})', 'fortran_order': (False|True), "
  rb"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n"
)
# Bytes read at a time: macOS refuses 2 GiB.
_PART = 2**30
_MAGIC = b'\x93NUMPY\x01\x00'
_NAMES = {
  np.lib.format.dtype_to_descr(np.dtype(name)): name
  for name in (
    *('bool', 'int8', 'uint8', 'int32', 'int64'),
    *('float16', 'float32', 'float64'),
  )
}
# More rows than a file can have.
_MOST_ROWS = 10**15
# On a CPU, JAX uses memory at such an address without a copy.
_ALIGNED = 64
# Gaps between wanted rows of up to so many bytes are read, not skipped.
_GAP = 2**15


class ArrayFile:
  """A new .npy file that takes rows as they come."""

  def __init__(self, path: pathlib.Path, row: tuple[int, ...], dtype: Any):
    """Args:
    path: The file.
    row: Shape of a row.
    dtype: Type of the numbers.
    """
    self._dtype = np.dtype(dtype)
    self._row, self._count = row, 0
    self._bytes = math.prod(row) * self._dtype.itemsize
    # The checksum of the rows, without the header.
    self._crc = 0
    self._file = path.open('w+b')
    # The number of rows is written at the end, with as many bytes.
    self._begin = self._file.write(self._header(_MOST_ROWS))

  def write(self, rows: np.ndarray) -> None:
    """Adds rows (k, ...); they are converted to the file's type."""
    # Not memory-mapped: a full disk should be an error, not a signal.
    raw = np.ascontiguousarray(rows, self._dtype).reshape(-1).view(np.uint8)
    self._file.write(raw.data)
    self._crc = checksums.extended(self._crc, raw)
    self._count += len(rows)

  def cut(self, count: int) -> None:
    """Drops all rows after the first `count`."""
    if count == self._count:
      return
    stop = self._begin + count * self._bytes
    self._file.seek(stop)
    self._file.truncate()
    self._file.seek(self._begin)
    self._crc = checksums.of_rest(self._file)
    self._count = count

  def finish(self) -> checksums.Facts:
    """Writes the number of rows, and syncs the file to disk; returns its size
    and checksum."""
    header = self._header(self._count, self._begin)
    self._file.seek(0)
    self._file.write(header)
    self._file.flush()
    os.fsync(self._file.fileno())
    size = self._count * self._bytes
    first = checksums.extended(0, header)
    return checksums.facts(
      len(header) + size, checksums.joined(first, self._crc, size)
    )

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _header(self, count: int, length: int = 0) -> bytes:
    """Returns the header for a number of rows, filled up to a length."""
    file = io.BytesIO()
    header = {
      'descr': np.lib.format.dtype_to_descr(self._dtype),
      'fortran_order': False,
      'shape': (count, *self._row),
    }
    np.lib.format.write_array_header_1_0(file, header)
    found = file.getvalue()
    size = max(length, len(found)) - len(_MAGIC) - 2
    text = found[len(_MAGIC) + 2 : -1].ljust(size - 1) + b'\n'
    return _MAGIC + size.to_bytes(2, 'little') + text


class Rows:
  """The rows of an array in a .npy file, which stays open.

  If the file is replaced or removed meanwhile, the former one is still read.
  Any number of threads may read.

  Attributes:
    path: The file.
    shape: Shape of the array.
    dtype: Type of its numbers.
  """

  def __init__(self, path: pathlib.Path):
    """Opens a file and reads its header.

    Raises:
      DamagedError: If it is missing, is no array, or its size differs from
        what its header says.
      OSError: If it cannot be opened for another reason.
    """
    self.path = path
    self._file = open_regular(path)
    weakref.finalize(self, os.close, self._file)
    start = self._bytes(0, 10)
    length = int.from_bytes(start[8:10], 'little')
    header = _HEADER.fullmatch(self._bytes(10, length))
    self._begin = 10 + length
    if start[:8] != _MAGIC or header is None:
      raise DamagedError(path, 'cannot be read (it has no header of an array)')
    descr, is_fortran, sizes = (x.decode('latin-1') for x in header.groups())
    if descr not in _NAMES or is_fortran != 'False':
      raise DamagedError(
        path,
        f'cannot be read (its header names the type {descr!r}, Fortran order '
        f'{is_fortran})',
      )
    self.dtype = np.dtype(_NAMES[descr])
    self.shape = tuple(int(size) for size in sizes.split(',') if size.strip())
    if not self.shape:
      raise DamagedError(path, 'cannot be read (it is one number, no array)')
    # Python's integers cannot overflow.
    self._row = math.prod(self.shape[1:]) * self.dtype.itemsize
    expected = self._begin + math.prod(self.shape) * self.dtype.itemsize
    found = os.fstat(self._file).st_size
    if found != expected:
      raise DamagedError(
        path,
        f'cannot be read (it has {found:,} bytes where its header says '
        f'{expected:,})',
      )

  def __len__(self) -> int:
    """The number of rows."""
    return self.shape[0]

  def require(self, shape: tuple[int, ...], dtype: np.dtype) -> 'Rows':
    """Returns this.

    Raises:
      DamagedError: If shape or dtype differ.
    """
    if self.shape != shape or self.dtype != dtype:
      raise DamagedError(
        self.path,
        f'is {self.dtype} of shape {self.shape} where {dtype} of shape {shape} '
        'was expected',
      )
    return self

  def read(self, start: int, stop: int) -> np.ndarray:
    """Returns the rows from `start` to `stop`, both inside the array.

    Raises:
      DamagedError: If the file was cut after it was opened, or the disk cannot
        read it.
    """
    found = _aligned((stop - start, *self.shape[1:]), self.dtype)
    self._fill(found, start)
    return found

  def take(self, rows: Int[np.ndarray, ' k'], found: np.ndarray) -> None:
    """Puts some rows of the array into `found` (k, ...), contiguous.

    Raises:
      DamagedError: See `read`.
    """
    if not len(rows):
      return
    order = np.argsort(rows, kind='stable')
    ordered = rows[order]
    near = max(_GAP // max(self._row, 1), 1)
    cuts = np.flatnonzero(np.diff(ordered) > near) + 1
    for places in np.split(order, cuts):
      first, last = int(rows[places[0]]), int(rows[places[-1]])
      at, size = int(places[0]), len(places)
      here = np.arange(size)
      if (places == at + here).all() and (rows[places] == first + here).all():
        # Consecutive in the file and in `found`: read without a copy.
        self._fill(found[at : at + size], first)
        continue
      found[places] = self.read(first, last + 1)[rows[places] - first]

  def _fill(self, found: np.ndarray, start: int) -> None:
    """Fills a contiguous array with the rows from `start` on."""
    if not found.size:
      return
    raw = found.reshape(-1).view(np.uint8)
    view, done = raw.data, 0
    offset = self._begin + start * self._row
    while done < len(view):
      try:
        count = os.preadv(
          self._file, [view[done : done + _PART]], offset + done
        )
      except OSError as error:
        raise DamagedError(
          self.path, f'cannot be read ({error.strerror})'
        ) from error
      if not count:
        raise DamagedError(self.path, 'was cut after it had been opened')
      done += count
    if self.dtype == np.bool_:
      # NumPy assumes that a boolean is 0 or 1.
      np.minimum(raw, 1, out=raw)

  def _bytes(self, offset: int, count: int) -> bytes:
    try:
      return os.pread(self._file, count, offset)
    except OSError as error:
      raise DamagedError(
        self.path, f'cannot be read ({error.strerror})'
      ) from error


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
  """Returns an uninitialised array that JAX uses without a copy on a CPU."""
  size = math.prod(shape) * dtype.itemsize
  raw = np.empty(size + _ALIGNED, np.uint8)
  start = -raw.ctypes.data % _ALIGNED
  return raw[start : start + size].view(dtype).reshape(shape)
