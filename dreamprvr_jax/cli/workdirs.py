"""Folders that commands write: held from their start to their end."""

import contextlib
import os
from collections.abc import Iterator

from dreamprvr_jax import folders
from dreamprvr_jax.devices import leader


@contextlib.contextmanager
def held(folder: os.PathLike[str] | str, what: str) -> Iterator[None]:
  """Holds a folder for all processes of this run: process 0 has the lock.

  Must come before anything in the folder is touched, at the same point on
  every process.

  Args:
    folder: Made if it is not there.
    what: What is written there, such as 'run'.

  Raises:
    UserError: On every process, if another command holds it.
  """
  with contextlib.ExitStack() as stack:
    leader.alone(lambda: stack.enter_context(folders.held(folder, what)))
    yield
