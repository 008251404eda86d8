"""The file that a video of an index comes from, and how it is known again."""

import dataclasses
import hashlib
import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from dreamprvr_jax import text
from dreamprvr_jax.archive.videos.files import shown
from dreamprvr_jax.archive.videos.finding import File, numbered

# A file's content is known by this many blocks at even distances, the first
# and the last among them, and by its size: a file of many gigabytes is not
# read whole.
_BLOCKS = 16
_BLOCK = 1 << 16


@dataclasses.dataclass(frozen=True)
class Stamp:
  """What the system says of a file without reading it.

  Attributes:
    size: Its bytes.
    mtime_ns: When it was last changed, in nanoseconds.
  """

  size: int
  mtime_ns: int

  @classmethod
  def of(cls, path: os.PathLike[str] | str) -> 'Stamp':
    """Returns the stamp of a file as it is now.

    Raises:
      OSError: If it cannot be read.
    """
    found = os.stat(path)
    return cls(found.st_size, found.st_mtime_ns)


@dataclasses.dataclass(frozen=True)
class Source:
  """The file of a video.

  Attributes:
    id: The id of the video.
    file: The absolute path.
    root: The given folder that it is in.
    stamp: Its size and time when it was encoded.
    hash: The hash of its content, see `content_hash`.
    duration: Its seconds, NaN if unknown.
  """

  id: str
  file: str
  root: str
  stamp: Stamp
  hash: str
  duration: float = math.nan

  @classmethod
  def of_row(cls, row: Mapping[str, Any]) -> 'Source':
    """Returns the source that a row of an index describes."""
    seconds = row.get('duration')
    return cls(
      str(row['id']),
      str(row['file']),
      str(row.get('root', '')),
      Stamp(int(row['size']), int(row['mtime_ns'])),
      str(row.get('hash', '')),
      math.nan if seconds is None else float(seconds),
    )

  def row(self) -> dict[str, Any]:
    """Returns the row that an index stores, a JSON object."""
    return {
      'id': self.id,
      'file': self.file,
      'root': self.root,
      'size': self.stamp.size,
      'mtime_ns': self.stamp.mtime_ns,
      'duration': None if math.isnan(self.duration) else self.duration,
      'hash': self.hash,
    }


def content_hash(path: os.PathLike[str] | str) -> str:
  """Returns 32 hexadecimal digits of a file's size and of some of its bytes.

  Raises:
    OSError: If it cannot be read.
  """
  with open(path, 'rb') as file:
    size = os.fstat(file.fileno()).st_size
    found = hashlib.blake2b(str(size).encode(), digest_size=16)
    if size <= _BLOCKS * _BLOCK:
      found.update(file.read())
    else:
      for number in range(_BLOCKS):
        file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
        found.update(file.read(_BLOCK))
  return found.hexdigest()


def ids_of(files: Iterable[File], taken: Iterable[str]) -> list[str]:
  """Returns an id for each file that no other has: its path below its root.

  Where that is taken, the root's own name stands in front, and if need be the
  names of the folders above it, up to the whole path.

  Args:
    files: The files.
    taken: Ids of other videos.
  """
  used, found = set(taken), []
  for file in files:
    names = list(_names(file))
    name = next((n for n in names if n not in used), None)
    name = name or numbered([names[-1]], used)[0]
    used.add(name)
    found.append(name)
  return found


def _names(file: File) -> Iterable[str]:
  parts = [part for part in file.root.parts if part != file.root.anchor]
  for start in range(len(parts), -1, -1):
    yield name_of(pathlib.PurePath(*parts[start:], file.below))


def name_of(path: pathlib.PurePath) -> str:
  """Returns a path as an id: in NFC, with `/` between folders, and `%` and two
  digits for each control character and each byte that is not UTF-8."""
  name = text.normal(shown(path.as_posix()))
  return ''.join(f'%{ord(x):02X}' if ord(x) < 32 else x for x in name)
