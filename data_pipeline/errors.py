"""Errors about somebody's files."""

from dreamprvr_jax.errors import UserError


class DataError(UserError):
  """A file, an item or an option of the data is not as it has to be.

  The message is written for the person who owns the files: it names the thing
  and where it was found, says what was found and what was expected, and ends
  with what to do.
  """


class BadItemError(DataError):
  """One video or one caption is bad; the rest of the corpus may be used.

  Attributes:
    item: What is bad, such as "video 'v_1'" or 'FILE:3'.
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

  The message is what stands behind the array's name in a sentence, such as
  'holds object where floats were expected'; who knows the name puts it there.
  """


def unreadable(error: BaseException) -> str:
  """Returns how a message goes on behind the name of what a library could
  not read."""
  what = ' '.join(str(error).split())[:160] or type(error).__name__
  return f'cannot be read: {what}; copy or write it again'
