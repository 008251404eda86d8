"""Checksums of the files in the folders of an index.

The manifest has the size of each file and its crc32c (Castagnoli, as in RFC
3720), as eight hexadecimal digits. It finds every flipped bit, and every run of
flipped bits that is no longer than 32. The manifest itself, and a JSON file
that is not in it, have a checksum of their own values.
"""

import functools
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from dreamprvr_jax.archive.index.files import DamagedError, open_regular

# What is known of a file: {'bytes': its size, 'crc32c': 8 digits}.
Facts = dict[str, Any]
# Names of the files of a folder, and what is known of each.
Files = Mapping[str, Facts]

# Files of fewer bytes are checked whenever they are opened.
SMALL = 2**20
# Bytes read at a time.
_BLOCK = 2**20
# The name of the checksum in a JSON file that has its own.
SEAL = 'crc32c'
_DIGITS = re.compile('[0-9a-f]{8}')


def extended(crc: int, content: bytes | np.ndarray) -> int:
  """Returns the crc32c of bytes that follow others.

  Args:
    crc: That of the others; 0 if there are none.
    content: Bytes, or a contiguous array of uint8.
  """
  return google_crc32c.extend(crc, content) if len(content) else crc


def joined(first: int, second: int, length: int) -> int:
  """Returns the crc32c of two pieces of bytes, one after the other.

  Args:
    first: The crc32c of the first piece.
    second: That of the second one.
    length: Bytes of the second piece.
  """
  for power in range(length.bit_length()):
    if length >> power & 1:
      first = _image(_zeros(power), first)
  return first ^ second


@functools.cache
def _zeros(power: int) -> tuple[int, ...]:
  """Returns what 2^power bytes of zero at the end make of a checksum: a linear
  map over the field of two elements, given by the images of single bits."""
  if not power:
    offset = extended(0, b'\0')
    return tuple(extended(1 << bit, b'\0') ^ offset for bit in range(32))
  half = _zeros(power - 1)
  return tuple(_image(half, value) for value in half)


def _image(step: tuple[int, ...], value: int) -> int:
  """Returns what a linear map makes of a checksum."""
  found = 0
  for bit, image in enumerate(step):
    if value >> bit & 1:
      found ^= image
  return found


def facts(size: int, crc: int) -> Facts:
  """Returns what the manifest says of a file."""
  return {'bytes': size, 'crc32c': f'{crc:08x}'}


def of_bytes(content: bytes) -> Facts:
  """Returns what the manifest says of a file with this content."""
  return facts(len(content), extended(0, content))


def of_rest(file: BinaryIO) -> int:
  """Returns the crc32c of all that is left to read of a file."""
  crc = 0
  while block := file.read(_BLOCK):
    crc = extended(crc, block)
  return crc


def of_file(
  path: pathlib.Path, read: Callable[[int], Any] = lambda count: None
) -> Facts:
  """Returns what the manifest says of a file; a block of it is in memory.

  Args:
    path: The file.
    read: Called after each block, with its bytes.

  Raises:
    DamagedError: If it is missing, no file, a link, or the disk cannot read it.
    OSError: If it cannot be opened for another reason.
  """
  size = crc = 0
  with open(open_regular(path), 'rb', buffering=0) as file:
    while True:
      try:
        block = file.read(_BLOCK)
      except OSError as error:
        raise DamagedError(
          path, f'cannot be read ({error.strerror})'
        ) from error
      if not block:
        return facts(size, crc)
      size, crc = size + len(block), extended(crc, block)
      read(len(block))


def record(
  folder: os.PathLike[str] | str,
  names: Iterable[str] | None = None,
  read: Callable[[int], Any] = lambda count: None,
) -> dict[str, Facts]:
  """Returns what the manifest says of the files of a folder, by name; reads
  them all.

  Args:
    folder: The folder.
    names: The files; None for all, if nobody else writes there.
    read: See `of_file`.

  Raises:
    DamagedError: See `of_file`.
  """
  root = pathlib.Path(folder)
  names = os.listdir(root) if names is None else names
  return {name: of_file(root / name, read) for name in sorted(names)}


def check(
  folder: os.PathLike[str] | str, files: Files, *, small_only: bool = False
) -> None:
  """Compares the files of a folder with what the manifest says of them.

  Args:
    folder: The folder.
    files: What the manifest says; other files are not looked at.
    small_only: Whether only the sizes of large files are compared. Those of
      ids and sources are always read, as whoever opens an index reads them.

  Raises:
    DamagedError: If a file is damaged, the first one.
  """
  for error in damage(folder, files, small_only=small_only):
    raise error


def damage(
  folder: os.PathLike[str] | str,
  files: Files,
  *,
  small_only: bool = False,
  read: Callable[[int], Any] = lambda count: None,
) -> Iterator[DamagedError]:
  """Yields an error for each damaged file of a folder.

  Args:
    folder: See `check`.
    files: See `check`.
    small_only: See `check`.
    read: See `of_file`.
  """
  for name, expected in files.items():
    path = pathlib.Path(folder) / name
    large = expected['bytes'] >= SMALL and path.suffix != '.json'
    try:
      if small_only and large:
        found = {**expected, 'bytes': _size(path)}
      else:
        found = of_file(path, read)
    except DamagedError as error:
      yield error
      continue
    if found['bytes'] != expected['bytes']:
      yield DamagedError(
        path,
        f'has {found["bytes"]:,} bytes where {expected["bytes"]:,} were '
        'written',
      )
    elif found != expected:
      yield DamagedError(
        path,
        f'has the checksum {found["crc32c"]} where {expected["crc32c"]} was '
        'written',
      )


def _size(path: pathlib.Path) -> int:
  with open(open_regular(path), 'rb', buffering=0) as file:
    return os.fstat(file.fileno()).st_size


def is_valid(files: Any) -> bool:
  """Returns whether a JSON value is what a manifest says of a folder."""
  return isinstance(files, dict) and all(
    isinstance(name, str)
    and name == os.path.basename(name)
    and name not in ('', '.', '..')
    and isinstance(known, dict)
    and set(known) == {'bytes', 'crc32c'}
    and type(known['bytes']) is int
    and known['bytes'] >= 0
    and isinstance(known['crc32c'], str)
    and _DIGITS.fullmatch(known['crc32c']) is not None
    for name, known in files.items()
  )


def sealed(content: Mapping[str, Any]) -> str:
  """Returns the text of a JSON file with a checksum of its values.

  Args:
    content: The values, `version` among them; a checksum is replaced.
  """
  first = {'version': content['version'], SEAL: ''}
  ordered = {**first, **content, SEAL: _seal(content)}
  return json.dumps(ordered, indent=2) + '\n'


def seal_damage(written: str, content: Mapping[str, Any]) -> str:
  """Returns what is wrong with a file that `sealed` wrote, '' if nothing is.

  Args:
    written: Its text.
    content: The values in it.
  """
  found, expected = _seal(content), content.get(SEAL)
  if found != expected:
    return f'has the checksum {found} where {expected!r:.40} was written'
  # The same values may be written in other ways.
  if written != sealed(content):
    return 'differs in white space or signs from what was written'
  return ''


def _seal(content: Mapping[str, Any]) -> str:
  """Returns the checksum of the values of a file, as canonical JSON."""
  values = {name: x for name, x in content.items() if name != SEAL}
  canonical = json.dumps(values, sort_keys=True, separators=(',', ':'))
  return of_bytes(canonical.encode())['crc32c']
