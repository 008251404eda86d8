"""Locks on the folders that commands write, from their start to their end."""

import contextlib
import os
from collections.abc import Iterator

from dreamprvr_jax import folders
from dreamprvr_jax.devices import leader


@contextlib.contextmanager
def held(folder: os.PathLike[str] | str, what: str) -> Iterator[None]:
  """Locks a folder for all processes of this run: process 0 has the lock.

  Every process must call it at the same point, before anything in the folder is
  read or written.

  Args:
    folder: The folder, created if it is missing.
    what: Name of the contents, such as 'run'.

  Raises:
    UserError: On every process, if another command has the lock.
  """
  with contextlib.ExitStack() as stack:
    leader.alone(lambda: stack.enter_context(folders.held(folder, what)))
    yield
