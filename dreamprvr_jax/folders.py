"""Folders that a command writes: claimed by a marker, held by one process.

It needs nothing but the standard library, so every package may use it.
"""

import contextlib
import fcntl
import json
import logging
import os
import pathlib
import socket
from collections.abc import Iterable, Iterator

from dreamprvr_jax.errors import UserError

_log = logging.getLogger(__name__)

LOCK = '.lock'
MARKER = '.dreamprvr.json'


class FolderError(UserError):
  """A folder that another command holds, or that is not ours to write."""


@contextlib.contextmanager
def held(folder: os.PathLike[str] | str, what: str) -> Iterator[int]:
  """Holds a folder for this process, and gives the lock's file descriptor.

  The lock is the kernel's: it ends with the process, however that ends, so a
  lock that a dead process has left is taken over. Children that inherit the
  descriptor hold the folder too.

  Args:
    folder: Made if it is not there.
    what: What is written there, such as 'run' or 'index', for the error.

  Raises:
    FolderError: If another process holds it; names that process.
  """
  root = pathlib.Path(folder)
  root.mkdir(parents=True, exist_ok=True)
  path = root / LOCK
  with path.open('a+') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      holder = file.read(200).strip() or 'unknown'
      raise FolderError(
        f'the {what} {folder} is in use by another command (process {holder}); '
        'wait until that one has ended, or end it, or give another folder'
      ) from None
    except OSError as error:
      # Some network disks have no locks.
      _log.warning(
        '%s cannot be locked (%s): start no second command that writes there',
        folder,
        error.strerror,
      )
    sign(file.fileno(), os.getpid())
    yield file.fileno()


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
  # The ending stays: some writers choose the format by it.
  partial = target.with_name(f'.{os.getpid()}.partial.{target.name}')
  try:
    yield partial
    with partial.open('rb') as file:
      os.fsync(file.fileno())
    partial.replace(target)
  except OSError as error:
    error.filename = str(target)
    raise
  finally:
    partial.unlink(missing_ok=True)
