"""Errors about files and items of data."""

from dreamprvr_jax.errors import UserError


class DataError(UserError):
  """A file, an item or an option of the data is wrong.

  The message is for the owner of the files: it names the thing and its place,
  says what was found and what was expected, and ends with what to do.
  """


class BadItemError(DataError):
  """One video or one caption is bad; the rest of the corpus may be good.

  Attributes:
    item: The item, such as "video 'v_1'" or 'FILE:3'.
    reason: What is wrong with it.
  """

  def __init__(self, item: str, reason: str):
    super().__init__(item, reason)
    self.item = item
    self.reason = reason

  def __str__(self) -> str:
    return (
      f'{self.item}: {self.reason} (leave such items out with '
      '--config.data.skip_bad)'
    )


class ArrayError(DataError):
  """One array of a file cannot be used.

  The message continues a sentence that begins with the array's name, such as
  'has object where floats were expected'; the caller adds the name.
  """


def unreadable(error: BaseException) -> str:
  """Returns the message for an array that a library could not read; it
  continues a sentence that begins with the array's name."""
  what = ' '.join(str(error).split())[:160] or type(error).__name__
  return f'cannot be read: {what}; copy or write it again'
