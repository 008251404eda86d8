"""Arrays in .npy and .npz files, read without trusting what they claim.

Nothing is unpickled, and every size is compared with that of the file before
anything is read.
"""

import ast
import collections
import math
import os
import pathlib
import re
import struct
import zipfile
import zlib
from typing import IO, BinaryIO, NamedTuple

import numpy as np

from data_pipeline.errors import ArrayError, DataError, unreadable
from data_pipeline.limits import (
  Claim,
  no_memory,
  require_memory,
  require_possible,
  shape_text,
)

_MAGIC = b'\x93NUMPY'
# The length of the header, by major version.
_LENGTHS = {
  1: struct.Struct('<H'),
  2: struct.Struct('<I'),
  3: struct.Struct('<I'),
}
# The header of a plain array has 100 to 200 bytes.
_MAX_HEADER = 4096
_MAX_DIMENSIONS = 32
_KEYS = {'descr', 'fortran_order', 'shape'}
_TYPE = re.compile(r'[<>|=]?[A-Za-z?]\d{0,9}(\[\w+\])?')
# Python 2 wrote (3L, 4L).
_LONG = re.compile(r'(?<=\d)L\b')
_ENCRYPTED = 0x1
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Errors of `zipfile` for damaged files: its own, UnicodeDecodeError and other
# ValueErrors for names and offsets, NotImplementedError for features that it
# lacks, EOFError, and those of zlib and the system.
_ZIP_ERRORS = (
  zipfile.BadZipFile,
  NotImplementedError,
  ValueError,
  EOFError,
  OSError,
  zlib.error,
)


class _Header(NamedTuple):
  """The beginning of an .npy stream; `start` is where the values begin."""

  shape: tuple[int, ...]
  dtype: np.dtype
  fortran: bool
  start: int

  @property
  def size(self) -> int:
    """Bytes of the values; 0 for objects, which are never read."""
    return (
      0 if self.dtype.hasobject else math.prod(self.shape) * self.dtype.itemsize
    )


def npy_claim(path: pathlib.Path) -> Claim:
  """Returns the claim of an .npy file.

  Raises:
    ArrayError: If it is not such a file or ends too early.
    OSError: If it cannot be read.
  """
  with path.open('rb') as file:
    header = _npy_header(file)
  return Claim(header.shape, header.dtype, header.size, header.size)


def read_npy(path: pathlib.Path) -> np.ndarray:
  """Returns the array of an .npy file, read-only.

  Raises:
    ArrayError: If it is damaged, has objects or does not fit into memory.
    OSError: If it cannot be read.
  """
  with path.open('rb') as file:
    return _values(file, _npy_header(file))


def _npy_header(file: BinaryIO) -> _Header:
  header = _read_header(file)
  size = os.fstat(file.fileno()).st_size
  if size < header.start + header.size:
    raise ArrayError(
      f'cannot be read: its file has {size:,} bytes where the shape '
      f'{shape_text(header.shape)} of {header.dtype} needs '
      f'{header.start + header.size:,}; it is truncated, copy it again'
    )
  return header


class Npz:
  """The arrays of an .npz file; one at a time is in memory.

  Attributes:
    ids: Names of the arrays, each once, in the order of the file.
    size: Bytes of the file.
  """

  def __init__(self, file: pathlib.Path | BinaryIO, where: str):
    """Opens a file.

    Args:
      file: Its path, or the open file.
      where: The name of the file in errors.

    Raises:
      DataError: If it is not an .npz file.
      OSError: If it cannot be opened.
    """
    stream = file.open('rb') if isinstance(file, pathlib.Path) else file
    self.size = stream.seek(0, os.SEEK_END)
    try:
      self._zip = zipfile.ZipFile(stream)
    except _ZIP_ERRORS as error:
      stream.close()
      raise DataError(
        f'{where} ({self.size:,} bytes) cannot be read as .npz: {error}; copy '
        'or write it again'
      ) from None
    self._stream = stream
    members = [i for i in self._zip.infolist() if i.filename.endswith('.npy')]
    self._members = {i.filename.removesuffix('.npy'): i for i in members}
    self._counts = collections.Counter(i.filename for i in members)
    self.ids = list(self._members)

  def claim(self, name: str) -> Claim:
    """Returns the claim of an array.

    Raises:
      ArrayError: If the array's parts contradict each other.
    """
    with self._open(name) as member:
      header = self._header(name, member)
    packed = self._members[name].compress_size
    return Claim(header.shape, header.dtype, header.size, packed)

  def read(self, name: str) -> np.ndarray:
    """Returns an array, read-only.

    Raises:
      ArrayError: If it is damaged, has objects or does not fit into memory.
    """
    with self._open(name) as member:
      header = self._header(name, member)
      array = _values(member, header)
      # The checksum is compared at the end of the member.
      try:
        member.read(1)
      except _ZIP_ERRORS as error:
        raise ArrayError(unreadable(error)) from None
      return array

  def _open(self, name: str) -> IO[bytes]:
    info = self._members[name]
    times = self._counts[info.filename]
    problem = ''
    if times > 1:
      problem = f'is in the file {times} times; write it once'
    elif info.flag_bits & _ENCRYPTED:
      problem = 'is encrypted; write it without a password'
    elif info.compress_type not in _PACKED:
      problem = (
        f'is packed by method {info.compress_type} of zip, which numpy does '
        'not write; write it with numpy.savez or numpy.savez_compressed'
      )
    elif info.compress_size > self.size or (
      info.compress_type == zipfile.ZIP_STORED
      and info.compress_size != info.file_size
    ):
      problem = (
        f'claims {info.compress_size:,} bytes for {info.file_size:,} of '
        f'content in a file of {self.size:,}; it is damaged, write it again'
      )
    if problem:
      raise ArrayError(problem)
    try:
      return self._zip.open(info)
    except _ZIP_ERRORS as error:
      raise ArrayError(unreadable(error)) from None

  def _header(self, name: str, member: IO[bytes]) -> _Header:
    header, size = _read_header(member), self._members[name].file_size
    if size != header.start + header.size and not header.dtype.hasobject:
      raise ArrayError(
        f'takes {size:,} bytes by the zip file, but {header.size:,} by its '
        f'own shape {shape_text(header.shape)}; it is damaged, write it again'
      )
    return header

  def close(self) -> None:
    """Closes the file."""
    self._zip.close()
    self._stream.close()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()


def _read(file: IO[bytes], count: int) -> bytes:
  """Returns the next bytes, fewer at the end.

  Raises:
    ArrayError: If a zip file is damaged there, or memory is short.
  """
  try:
    return file.read(count)
  except _ZIP_ERRORS as error:
    raise ArrayError(unreadable(error)) from None
  except MemoryError:
    raise no_memory(count) from None


def _read_header(file: IO[bytes]) -> _Header:
  start = _read(file, len(_MAGIC) + 2)
  if len(start) < len(_MAGIC) + 2 or not start.startswith(_MAGIC):
    raise ArrayError('cannot be read: it is not .npy data; write it again')
  layout = _LENGTHS.get(start[-2])
  if layout is None:
    raise ArrayError(
      f'cannot be read: it is .npy data of version {start[-2]}; write it with '
      'numpy.save'
    )
  raw = _read(file, layout.size)
  length = layout.unpack(raw)[0] if len(raw) == layout.size else -1
  if length > _MAX_HEADER:
    raise ArrayError(
      f'cannot be read: its header claims {length:,} bytes where about 100 '
      'were expected; write it with numpy.save'
    )
  text = _read(file, max(length, 0))
  if length < 0 or len(text) < length:
    raise ArrayError(
      'cannot be read: it ends within its header; it is truncated, copy it '
      'again'
    )
  shape, kind, fortran = _parse(text.decode('latin-1'))
  return _Header(shape, kind, fortran, len(start) + len(raw) + length)


def _parse(text: str) -> tuple[tuple[int, ...], np.dtype, bool]:
  """Returns shape, type and order of a header."""
  try:
    found = ast.literal_eval(_LONG.sub('', text).strip())
  # All documented errors of the parser, for a text of bounded length.
  except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
    found = None
  if not isinstance(found, dict) or set(found) != _KEYS:
    raise ArrayError('cannot be read: its header is damaged; write it again')
  shape, kind = found['shape'], found['descr']
  if (
    not isinstance(shape, tuple)
    or len(shape) > _MAX_DIMENSIONS
    or not all(type(n) is int and n >= 0 for n in shape)
    or not isinstance(found['fortran_order'], bool)
  ):
    raise ArrayError(
      f'claims the shape {str(shape)[:80]}, which no array has; write it again'
    )
  if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
    raise ArrayError(
      f'holds {str(kind)[:80]} where plain numbers were expected; write it as '
      'a float array'
    )
  try:
    dtype = np.dtype(kind)
  except (TypeError, ValueError):
    raise ArrayError(
      f'holds {kind}, which numpy does not know; write it as a float array'
    ) from None
  require_possible(shape, dtype)
  return shape, dtype, found['fortran_order']


def _values(file: IO[bytes], header: _Header) -> np.ndarray:
  """Returns the values after a header."""
  shape, dtype, fortran, _ = header
  if dtype.hasobject:
    raise ArrayError(
      'cannot be read: it holds Python objects, which are never unpickled; '
      'write it as a float array'
    )
  require_memory(Claim(shape, dtype, header.size, header.size))
  if not header.size:
    return np.zeros(shape, dtype)
  raw = _read(file, header.size)
  if len(raw) < header.size:
    raise ArrayError(
      f'cannot be read: it has {len(raw):,} of {header.size:,} bytes; it is '
      'truncated, copy it again'
    )
  order = 'F' if fortran else 'C'
  return np.frombuffer(raw, dtype).reshape(shape, order=order)
