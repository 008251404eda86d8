"""The one error that the data room raises about somebody's files."""


class DataError(ValueError):
  """A file, an item or an option of the data is not as it has to be.

  The message is written for the person who owns the files: it names the thing
  and where it was found, says what was found and what was expected, and ends
  with what to do.
  """


class BadItemError(DataError):
  """One video or one caption is bad; the rest of the corpus may be used."""

  def __init__(self, item: str, reason: str):
    super().__init__(
      f'{item}: {reason} (leave such items out with --config.data.skip_bad)'
    )
    self.item = item
    self.reason = reason
