"""Files of an index: how they are opened, and what a damaged one is."""

import errno
import os
import pathlib
import stat

from dreamprvr_jax.errors import UserError

try:
  import resource
except ModuleNotFoundError:  # Windows, where only sockets are limited.
  resource = None


class DamagedError(UserError):
  """A file or folder of an index is missing or is not what was written.

  Attributes:
    path: The file or folder.
    what: The damage, such as 'is missing'.
  """

  def __init__(self, path: os.PathLike[str] | str, what: str):
    super().__init__(str(path), what)
    self.path = str(path)
    self.what = what

  def __str__(self) -> str:
    return (
      f'the index is damaged: {self.path} {self.what}; restore it from a '
      'backup, or index again'
    )


def allow_files(count: int) -> bool:
  """Lets this process open so many files; returns whether the system allows
  it."""
  if resource is None:
    return True
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if soft == resource.RLIM_INFINITY or soft >= count:
    return True
  if hard != resource.RLIM_INFINITY and hard < count:
    return False
  try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
  except (ValueError, OSError):
    # macOS names no hard limit, but has one.
    return False
  return True


def open_regular(path: pathlib.Path) -> int:
  """Returns the descriptor of a file, opened for reading.

  Raises:
    DamagedError: If it is missing, a link, or not a regular file.
    OSError: If it cannot be opened for another reason.
  """
  try:
    # Opening a pipe would wait forever.
    file = os.open(
      path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    )
  except (FileNotFoundError, NotADirectoryError):
    raise DamagedError(path, 'is missing') from None
  except OSError as error:
    if error.errno == errno.ELOOP:
      raise DamagedError(path, 'is a link where a file was expected') from None
    if error.errno == errno.ENXIO:
      raise DamagedError(path, 'is no file') from None
    raise
  if not stat.S_ISREG(os.fstat(file).st_mode):
    os.close(file)
    raise DamagedError(path, 'is no file')
  return file
