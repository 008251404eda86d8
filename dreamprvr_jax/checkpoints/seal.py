"""Seals: sizes and checksums of a checkpoint's files.

Orbax reads arrays with flipped bits as other numbers, and raises one of many
errors for a file that is cut short. A seal finds both kinds of damage before
anything is read, and tells them from a whole checkpoint that does not fit a
model.
"""

import json
import pathlib
import zlib
from collections.abc import Iterable
from typing import Any

from dreamprvr_jax import folders, text
from dreamprvr_jax.errors import UserError

SEAL = 'seal.json'
_CHUNK = 1 << 20


def write_seal(
  folder: pathlib.Path, items: Iterable[str], **facts: Any
) -> None:
  """Seals folders of a checkpoint.

  Args:
    folder: The checkpoint.
    items: Names of the folders in it.
    **facts: JSON values to keep with the seal; see `read_facts`.
  """
  files = {
    path.relative_to(folder).as_posix(): _sum(path)
    for item in items
    for path in sorted((folder / item).rglob('*'))
    if path.is_file()
  }
  _write(folder, {'files': files, **facts})


def update_facts(folder: pathlib.Path, **facts: Any) -> None:
  """Replaces facts that are kept with a seal, in one step."""
  _write(folder, {**_read(folder), **facts})


def read_facts(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the facts that are kept with the seal of a whole checkpoint."""
  return _read(folder)


def find_damage(folder: pathlib.Path, item: str = '') -> str | None:
  """Returns the damage of a checkpoint; None if it is as it was written.

  Args:
    folder: The checkpoint.
    item: Name of the one folder in it that is checked; all if empty.
  """
  try:
    files = _read(folder)['files']
  except FileNotFoundError:
    return f'{SEAL} is missing'
  except (OSError, UserError):
    return f'{SEAL} cannot be read'
  for name, (size, checksum) in files.items():
    if item and not name.startswith(f'{item}/'):
      continue
    try:
      found = _sum(folder / name)
    except FileNotFoundError:
      return f'{name} is missing'
    except OSError as error:
      return f'{name} cannot be read: {error.strerror}'
    if found[0] != size:
      return f'{name} has {found[0]} bytes instead of {size}'
    if found[1] != checksum:
      return f'{name} has another checksum than when it was written'
  return None


def _sum(path: pathlib.Path) -> list[int]:
  """Returns [size, CRC-32] of a file."""
  size = checksum = 0
  with path.open('rb') as file:
    while chunk := file.read(_CHUNK):
      size += len(chunk)
      checksum = zlib.crc32(chunk, checksum)
  return [size, checksum]


def _write(folder: pathlib.Path, content: dict[str, Any]) -> None:
  folders.write_json(
    folder / SEAL, {'content': content, 'crc32': _own(content)}
  )


def _read(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the content that `_write` has written.

  Raises:
    UserError: If it is not a seal or is damaged.
    OSError: If it cannot be read.
  """
  where = str(folder / SEAL)
  stored = text.parse_json(text.read(folder / SEAL), where)
  if not isinstance(stored, dict) or stored.keys() != {'content', 'crc32'}:
    raise UserError(f'{where} is no seal; restore it from a backup')
  if stored['crc32'] != _own(stored['content']):
    raise UserError(
      f'{where} has another checksum than when it was written; restore it from '
      'a backup'
    )
  return stored['content']


def _own(content: dict[str, Any]) -> int:
  return zlib.crc32(json.dumps(content, sort_keys=True).encode())
