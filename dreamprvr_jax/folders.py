"""Folders that a command writes, and files that are replaced in one step.

A folder is claimed by a marker and held by one process.

It needs nothing but the standard library, so every package may use it.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import pathlib
import secrets
import shutil
import socket
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from dreamprvr_jax.errors import UserError

_log = logging.getLogger(__name__)

LOCK = '.lock'
MARKER = '.dreamprvr.json'


class FolderError(UserError):
  """A folder that another command uses, or that has foreign files."""


@contextlib.contextmanager
def held(
  folder: os.PathLike[str] | str, what: str, *, wait: bool = False
) -> Iterator[int]:
  """Locks a folder for this process; yields the lock's file descriptor.

  The lock is the kernel's and ends with the process, however that ends: a lock
  file that a dead process has left does not count. Children that inherit the
  descriptor hold the lock too.

  Args:
    folder: Made if it does not exist.
    what: The kind of folder, such as 'run' or 'index', for the error.
    wait: Whether to wait, with a message, while another process holds it.

  Raises:
    FolderError: If another process holds the lock; names that process.
  """
  root = pathlib.Path(folder)
  is_new = not root.exists()
  with _locked(root, f'the {what} {folder}', wait) as file:
    try:
      yield file.fileno()
    finally:
      if is_new:
        _remove_if_empty(root)


@contextlib.contextmanager
def made(
  folder: os.PathLike[str] | str, what: str, *, wait: bool = False
) -> Iterator[pathlib.Path | None]:
  """Yields an empty folder to fill, which becomes `folder` in one step.

  Yields None if `folder` exists. If the block fails, nothing is left behind.

  Args:
    folder: The folder, which appears when it is whole.
    what: See `held`.
    wait: See `held`.

  Raises:
    FolderError: If another process makes it, or if foreign files are in the
      place where it is made.
  """
  target = pathlib.Path(folder)
  if target.exists():
    yield None
    return
  place = target.with_name(f'.{target.name}.partial')
  # The lock is the first thing that is made there, so it marks what is ours.
  names = _names(place)
  names = [name for name in names if not is_of_system(name)]
  if names and LOCK not in names:
    raise FolderError(
      f'{place} holds other files ({min(names)}) and is where the '
      f'{what} {folder} has to be made; move it away'
    )
  with _locked(place, f'the {what} {folder}', wait):
    # What a killed process left.
    _clear(place)
    is_moved = False
    try:
      if target.exists():
        # Another process has made it meanwhile.
        yield None
      else:
        yield place
        place.rename(target)
        is_moved = True
        (target / LOCK).unlink()
    finally:
      # Once moved, the place belongs to the next process.
      if not is_moved:
        _clear(place)
        _remove_if_empty(place)


def _names(folder: pathlib.Path) -> list[str]:
  """Returns what a folder has; nothing if another process has just moved it."""
  try:
    return os.listdir(folder)
  except FileNotFoundError:
    return []


@contextlib.contextmanager
def _locked(root: pathlib.Path, name: str, wait: bool) -> Iterator[TextIO]:
  """Locks the lock file of a folder and writes the process into it."""
  while True:
    try:
      root.mkdir(parents=True, exist_ok=True)
      opened = (root / LOCK).open('a+')
    except (FileNotFoundError, FileExistsError):
      # The process that held it has just moved or removed the folder.
      if _is_blocked(root):
        raise
      continue
    with opened as file:
      _lock(file, root, name, wait)
      # The former holder may have removed the file just before it let go.
      if not _is_there(file, root / LOCK):
        continue
      sign(file.fileno(), os.getpid())
      yield file
      return


def _is_blocked(root: pathlib.Path) -> bool:
  """Returns whether something that stays keeps a folder from being made, or its
  lock from being opened."""
  if os.path.lexists(root) and not root.is_dir():
    return True
  return not root.parent.is_dir() or (root / LOCK).is_symlink()


def _lock(file: TextIO, root: pathlib.Path, name: str, wait: bool) -> None:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.seek(0)
    holder = file.read(200).strip() or 'unknown'
    if not wait:
      raise FolderError(
        f'{name} is in use by another command (process {holder}); wait until '
        'that one has ended, or end it, or give another folder'
      ) from None
    _log.info('%s: waiting for process %s, which is using it', name, holder)
    fcntl.flock(file, fcntl.LOCK_EX)
  except OSError as error:
    # Some network disks have no locks.
    _log.warning(
      '%s cannot be locked (%s): do not start a second command there',
      root,
      error.strerror,
    )


def _clear(root: pathlib.Path) -> None:
  """Removes all but the lock of a folder."""
  for path in root.iterdir():
    if path.name != LOCK:
      shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove_if_empty(root: pathlib.Path) -> None:
  """Removes a folder in which nothing but the lock was made."""
  # It may be gone, or another process may have just opened its lock.
  with contextlib.suppress(OSError):
    if os.listdir(root) == [LOCK]:
      (root / LOCK).unlink()
      root.rmdir()


def _is_there(file: TextIO, path: pathlib.Path) -> bool:
  """Returns whether an open file is still the one at a path."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), path.stat())
  except FileNotFoundError:
    return False


def sign(descriptor: int, process: int) -> None:
  """Writes the process that holds a lock, and its machine, into the file."""
  os.truncate(descriptor, 0)
  os.write(descriptor, f'{process} on {socket.gethostname()}'.encode())


def is_of_system(name: str) -> bool:
  """Returns whether a file is one that a system puts into any folder: macOS's
  notes about it, or what a network disk keeps of a removed file that is still
  open."""
  return name == '.DS_Store' or name.startswith(('._', '.nfs'))


def claim(
  folder: os.PathLike[str] | str, kind: str, known: Iterable[str] = ()
) -> pathlib.Path:
  """Marks a folder as ours, of one kind, and returns it.

  Only marked folders may be cleared or replaced later.

  Args:
    folder: Made if it does not exist.
    kind: Its content, such as 'index'.
    known: Names of files that show this kind in a folder without a marker;
      earlier versions wrote none.

  Raises:
    FolderError: If it has other files, or is marked as another kind.
  """
  root = pathlib.Path(folder)
  root.mkdir(parents=True, exist_ok=True)
  found = kind_of(root)
  names = {path.name for path in root.iterdir()} - {LOCK, MARKER}
  names = {name for name in names if not is_of_system(name)}
  if found is None and names and not names & set(known):
    raise FolderError(
      f'{folder} holds other files ({min(names)}) and no {kind}; give a folder '
      'that is empty or does not exist yet'
    )
  if found not in (None, kind):
    raise FolderError(
      f'{folder} is marked as {found!r} where {kind!r} was expected; give '
      'another folder'
    )
  if found is None:
    write_json(root / MARKER, {'kind': kind})
  return root


def kind_of(folder: os.PathLike[str] | str) -> str | None:
  """Returns the kind that a folder is marked as; None if it has no marker."""
  try:
    content = json.loads((pathlib.Path(folder) / MARKER).read_bytes())
  except (FileNotFoundError, ValueError, RecursionError):
    return None
  kind = content.get('kind') if isinstance(content, dict) else None
  return kind if isinstance(kind, str) else None


def sync(folder: os.PathLike[str] | str) -> None:
  """Makes the names in a folder outlast a power cut, where the system can.

  Raises:
    OSError: If the disk fails.
  """
  try:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
  except PermissionError:
    # Files can be written into a folder that cannot be read.
    return
  try:
    os.fsync(descriptor)
  except OSError as error:
    # Some network disks do this for files alone.
    if error.errno not in (errno.EINVAL, errno.ENOTSUP):
      raise
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def replacing(path: os.PathLike[str] | str) -> Iterator[pathlib.Path]:
  """Yields a path to write to; the new file replaces `path` in one step.

  If the block fails, `path` is as it was and nothing else is left. If it does
  not, the new file outlasts a power cut.

  Raises:
    OSError: If it cannot be written; its file name is `path`.
  """
  target = pathlib.Path(path)
  target.parent.mkdir(parents=True, exist_ok=True)
  # The ending stays: some writers choose the format by it. Processes of two
  # machines may have the same number.
  token = f'{os.getpid()}-{secrets.token_hex(4)}'
  partial = target.with_name(f'.{token}.partial.{target.name}')
  try:
    yield partial
    with partial.open('rb') as file:
      os.fsync(file.fileno())
    partial.replace(target)
    sync(target.parent)
  except OSError as error:
    # Without a number, a name would take the place of the message.
    if error.errno is not None:
      error.filename = str(target)
    raise
  finally:
    partial.unlink(missing_ok=True)


def write_text(
  path: os.PathLike[str] | str, content: str, *, errors: str = 'strict'
) -> None:
  """Writes a text as UTF-8, replacing the file in one step.

  Args:
    path: The file; a missing folder is made.
    content: The text.
    errors: How characters that UTF-8 lacks are written, see `str.encode`.

  Raises:
    OSError: If it cannot be written; a former file is as it was.
  """
  with replacing(path) as partial:
    partial.write_bytes(content.encode('utf-8', errors))


def write_json(
  path: os.PathLike[str] | str, value: Any, *, indent: int = 2
) -> None:
  """Writes a value as JSON, replacing the file in one step.

  Raises:
    OSError: If it cannot be written; a former file is as it was.
  """
  write_text(path, json.dumps(value, indent=indent) + '\n')
