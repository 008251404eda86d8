"""Folders that a command writes: claimed by a marker, held by one process.

It needs nothing but the standard library, so every package may use it.
"""

import contextlib
import fcntl
import json
import logging
import os
import pathlib
import secrets
import shutil
import socket
from collections.abc import Iterable, Iterator
from typing import TextIO

from dreamprvr_jax.errors import UserError

_log = logging.getLogger(__name__)

LOCK = '.lock'
MARKER = '.dreamprvr.json'


class FolderError(UserError):
  """A folder that another command holds, or that is not ours to write."""


@contextlib.contextmanager
def held(
  folder: os.PathLike[str] | str, what: str, *, wait: bool = False
) -> Iterator[int]:
  """Holds a folder for this process, and gives the lock's file descriptor.

  The lock is the kernel's: it ends with the process, however that ends, so a
  lock that a dead process has left is taken over. Children that inherit the
  descriptor hold the folder too.

  Args:
    folder: Made if it is not there.
    what: What is written there, such as 'run' or 'index', for the error.
    wait: Wait for the end of another process that holds it, and say so.

  Raises:
    FolderError: If another process holds it; names that process.
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
  """Gives an empty folder to fill, which takes the place of `folder` in one
  step; None if `folder` is there. If the block fails, nothing is left.

  Args:
    folder: It appears when it is whole.
    what: See `held`, like the next.
    wait: While another process makes it.

  Raises:
    FolderError: If another process makes it; names that process. If somebody
      else's files are where it has to be made.
  """
  target = pathlib.Path(folder)
  if target.exists():
    yield None
    return
  place = target.with_name(f'.{target.name}.partial')
  # The lock is the first thing that is made there, so it marks what is ours.
  if place.exists() and os.listdir(place) and not (place / LOCK).exists():
    raise FolderError(
      f'{place} holds other files ({min(os.listdir(place))}) and is where the '
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
      # Once moved, what is in the place is another process's.
      if not is_moved:
        _clear(place)
        _remove_if_empty(place)


@contextlib.contextmanager
def _locked(root: pathlib.Path, name: str, wait: bool) -> Iterator[TextIO]:
  """Holds the lock file of a folder, which is open and signed."""
  while True:
    root.mkdir(parents=True, exist_ok=True)
    with (root / LOCK).open('a+') as file:
      _lock(file, root, name, wait)
      # The process that held it may have removed it just before it let go.
      if not _is_there(file, root / LOCK):
        continue
      sign(file.fileno(), os.getpid())
      yield file
      return


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
    _log.info(
      '%s: waiting for process %s, which is at work there', name, holder
    )
    fcntl.flock(file, fcntl.LOCK_EX)
  except OSError as error:
    # Some network disks have no locks.
    _log.warning(
      '%s cannot be locked (%s): start no second command that writes there',
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
  # It may be gone; another process may have opened its lock there just now.
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
  """Writes into a held lock which process of this machine holds it."""
  os.truncate(descriptor, 0)
  os.write(descriptor, f'{process} on {socket.gethostname()}'.encode())


def claim(
  folder: os.PathLike[str] | str, kind: str, known: Iterable[str] = ()
) -> pathlib.Path:
  """Marks a folder as ours, of one kind, and returns it.

  Only what carries the marker may be cleared or replaced later.

  Args:
    folder: Made if it is not there.
    kind: What it holds, such as 'index'.
    known: Names of files which show that it is of this kind although it has no
      marker: earlier versions wrote none.

  Raises:
    FolderError: If it holds other files, or is marked as another kind.
  """
  root = pathlib.Path(folder)
  root.mkdir(parents=True, exist_ok=True)
  found = kind_of(root)
  names = {path.name for path in root.iterdir()} - {LOCK, MARKER}
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
    with replacing(root / MARKER) as partial:
      partial.write_text(json.dumps({'kind': kind}) + '\n', encoding='utf-8')
  return root


def kind_of(folder: os.PathLike[str] | str) -> str | None:
  """Returns the kind that a folder is marked as; None if it has no marker."""
  try:
    content = json.loads((pathlib.Path(folder) / MARKER).read_bytes())
  except (FileNotFoundError, ValueError, RecursionError):
    return None
  kind = content.get('kind') if isinstance(content, dict) else None
  return kind if isinstance(kind, str) else None


@contextlib.contextmanager
def replacing(path: os.PathLike[str] | str) -> Iterator[pathlib.Path]:
  """Gives a path to write; what is written replaces `path` in one step.

  If the block fails, `path` is as it was and nothing else is left.

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
  except OSError as error:
    # Without a number, a name would take the place of the message.
    if error.errno is not None:
      error.filename = str(target)
    raise
  finally:
    partial.unlink(missing_ok=True)
