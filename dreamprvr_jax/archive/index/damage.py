"""The error of a file of an index that is not what its writer left."""

import os

from dreamprvr_jax.errors import UserError


class DamagedError(UserError):
  """A file or folder of an index is missing or is not what was written.

  Attributes:
    path: The file or folder.
    what: What is wrong with it, such as 'is missing'.
  """

  def __init__(self, path: os.PathLike[str] | str, what: str):
    super().__init__(str(path), what)
    self.path = str(path)
    self.what = what

  def __str__(self) -> str:
    return (
      f'the index is damaged: {self.path} {self.what}; restore it from a '
      'backup, or index anew'
    )
