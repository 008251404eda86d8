"""What a server shows: an open index, the files of its videos, and facts about
them."""

import dataclasses
import datetime
import functools
import math
from collections.abc import Sequence

from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.neighbours import Neighbours
from dreamprvr_jax.archive.serving.answers import Answers
from dreamprvr_jax.archive.serving.files import VideoFiles
from dreamprvr_jax.text import normal


@dataclasses.dataclass(frozen=True)
class About:
  """A video as people know it.

  Attributes:
    title: The name of its file; without a file its id.
    folder: The folder of its file below the indexed one; '' for that one.
    date: The day when its file was last changed, as '2024-05-31'; '' if
      unknown.
    seconds: Its length, NaN if unknown.
    sought: Folder and title in the form in which names are looked for, see
      `seekable`.
  """

  title: str
  folder: str
  date: str
  seconds: float
  sought: str


def seekable(name: str) -> str:
  """Returns a name in the form in which names are compared."""
  return normal(name).casefold()


class Contents:
  """An index at one time; a changed one gets contents of its own.

  Attributes:
    index: The index.
    answers: Answers queries.
    files: The video files.
  """

  def __init__(
    self, index: Index, answers: Answers, files: VideoFiles | None = None
  ):
    """Reads no token yet.

    Args:
      index: The index.
      answers: Answers queries with it.
      files: The video files.
    """
    self.index, self.answers = index, answers
    self.files = files or VideoFiles.of_sources(index.store.sources())
    self._rows = index.store.rows_of()
    self._named = {normal(video): video for video in self._rows}
    self._orders: dict[str, list[str]] = {}

  def __len__(self) -> int:
    """The number of videos."""
    return len(self._rows)

  @functools.cached_property
  def neighbours(self) -> Neighbours:
    """Finds similar videos."""
    return Neighbours(self.index.store)

  def first(self) -> str:
    """Returns the id of some video."""
    return next(iter(self._rows))

  def named(self, video: str) -> str | None:
    """Returns the id of a video in any Unicode form; None if the index has no
    such video."""
    return video if video in self._rows else self._named.get(normal(video))

  def rows(self, video: str) -> range:
    """Returns the rows of a video."""
    return self._rows[video]

  def about(self, video: str) -> About:
    """Returns what people know of a video."""
    return self._about[video]

  @functools.cached_property
  def _about(self) -> dict[str, About]:
    catalogue = self.index.catalogue
    found = {}
    for video, seconds in zip(
      catalogue.ids, catalogue.seconds.tolist(), strict=True
    ):
      known = catalogue.file(video)
      title, folder, day = known.title, known.folder, known.date
      file = None if known.path else self.files.get(video)
      if file:
        # The index does not know its files; the server was told where they are.
        changed = file.path.stat().st_mtime
        day = datetime.date.fromtimestamp(changed).isoformat()
        title, folder = file.title, file.folder
      sought = seekable(f'{folder}/{title}')
      found[video] = About(title, folder, day, seconds, sought)
    return found

  @functools.cached_property
  def folders(self) -> dict[str, int]:
    """The number of videos in each folder and all folders below it; '' is
    left out."""
    found: dict[str, int] = {}
    for about in self._about.values():
      parts = about.folder.split('/') if about.folder else []
      for depth in range(1, len(parts) + 1):
        name = '/'.join(parts[:depth])
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))

  def ordered(self, by: str) -> Sequence[str]:
    """Returns all ids in an order.

    Args:
      by: 'name', 'date' with the latest first, or 'length' with the longest
        first; equal ones by folder and name.
    """
    if by not in self._orders:
      about = self._about
      names = sorted(about, key=lambda x: (about[x].folder, about[x].title, x))
      if by == 'date':
        names.sort(key=lambda x: about[x].date, reverse=True)
      elif by == 'length':
        length = lambda x: about[x].seconds
        names.sort(key=lambda x: (math.isnan(length(x)), -length(x)))
      self._orders[by] = names
    return self._orders[by]
