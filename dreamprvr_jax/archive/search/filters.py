"""Which videos a search may find: by folder, date of the file, and length."""

import dataclasses
import datetime
import math
import re

import numpy as np
from jaxtyping import Bool

from dreamprvr_jax import text
from dreamprvr_jax.archive.search.catalogue import Catalogue
from dreamprvr_jax.errors import UserError

_DATE = re.compile(r'(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?')


@dataclasses.dataclass(frozen=True)
class Filters:
  """Conditions that a video has to meet; by default all do.

  A video of which a condition asks something unknown does not meet it.

  Attributes:
    folder: A folder that its file is in, directly or further below: a path
      below an indexed folder, or an absolute one; '' for any.
    after: Day from which on its file was changed, in local time, as YYYY-MM-DD,
      YYYY-MM or YYYY; '' for any.
    before: Day before which its file was changed, likewise.
    min_seconds: Seconds that it lasts, at least.
    max_seconds: Seconds that it lasts, at most.
  """

  folder: str = ''
  after: str = ''
  before: str = ''
  min_seconds: float = 0.0
  max_seconds: float = math.inf

  def __post_init__(self):
    """Checks the conditions.

    Raises:
      UserError: If a date is none, or no video can meet the conditions.
    """
    if self._first >= self._last:
      raise UserError(
        f'no file was changed from {self.after} on and before {self.before}; '
        'give a later day to stop at'
      )
    if not 0 <= self.min_seconds <= self.max_seconds:
      raise UserError(
        f'no video lasts at least {self.min_seconds:g} and at most '
        f'{self.max_seconds:g} seconds; give seconds from 0 on, the smaller '
        'number first'
      )

  def __bool__(self) -> bool:
    """Whether there is any condition."""
    return self != Filters()

  @property
  def _first(self) -> float:
    """The earliest time of a file, in seconds since 1970."""
    return _begin(self.after, 'after') if self.after else -math.inf

  @property
  def _last(self) -> float:
    """The time before which a file was changed, in seconds since 1970."""
    return _begin(self.before, 'before') if self.before else math.inf

  def met(self, catalogue: Catalogue) -> Bool[np.ndarray, ' v']:
    """Returns which videos of an index meet the conditions, in its order."""
    found = np.ones(len(catalogue), bool)
    if self.folder:
      wanted = text.normal(self.folder).rstrip('/') or '/'
      inside = [
        any(f'{name}/'.startswith(f'{wanted}/') for name in names)
        or wanted == '/'
        for names in catalogue.folders
      ]
      found &= np.asarray(inside, bool)[catalogue.folder_of]
    if self.after or self.before:
      dates = catalogue.dates
      found &= (dates >= self._first) & (dates < self._last)
    if self.min_seconds > 0 or self.max_seconds < math.inf:
      seconds = catalogue.seconds
      found &= (seconds >= self.min_seconds) & (seconds <= self.max_seconds)
    return found


def _begin(date: str, name: str) -> float:
  """Returns when a day, month or year begins, in seconds since 1970.

  Raises:
    UserError: If there is no such date.
  """
  found = _DATE.fullmatch(date.strip())
  if found:
    year, month, day = (int(part or 1) for part in found.groups())
    try:
      return datetime.datetime(year, month, day).astimezone().timestamp()
    except (ValueError, OverflowError):
      pass  # There is no such day, or the system cannot count to it.
  raise UserError(
    f'{name}={date}: this is no date; write YYYY-MM-DD, YYYY-MM or YYYY'
  )
