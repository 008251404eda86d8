"""The files behind the videos of an index, and what is known of them."""

import contextlib
import dataclasses
import datetime
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from dreamprvr_jax import text
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.videos.files import shown


@dataclasses.dataclass(frozen=True)
class File:
  """The file of a video; texts are '' where something is unknown.

  Attributes:
    path: Its absolute path, which need not be text; see `files.shown`.
    folder: Its folder, below the one that was indexed.
    title: Its name.
    date: When it was last changed, YYYY-MM-DD, in local time.
  """

  path: str = ''
  folder: str = ''
  title: str = ''
  date: str = ''


NO_FILE = File()


class Catalogue:
  """What is known of all videos of an index, in the order of their rows.

  Attributes:
    ids: (v,) their ids.
    folders: The different folders, each in all its names: absolute, and below
      the folder that was indexed.
    folder_of: (v,) number of each video's folder.
    dates: (v,) when each file was last changed, in seconds since 1970; NaN if
      unknown.
    seconds: (v,) how long each video is; NaN if unknown.
  """

  folders: list[tuple[str, ...]]
  folder_of: Int[np.ndarray, ' v']
  dates: Float[np.ndarray, ' v']
  seconds: Float[np.ndarray, ' v']

  def __init__(self, store: Store):
    """Reads what an index says of its videos."""
    self._sources = {row['id']: row for row in store.sources()}
    self._rows_of = store.rows_of()
    self._rows = len(store)
    self.ids = list(self._rows_of)
    numbers: dict[tuple[str, ...], int] = {}
    folder_of, dates, seconds = [], [], []
    ends = store.read('durations', 0, len(store))
    if store.has('starts'):
      ends = ends + store.read('starts', 0, len(store))
    for name, rows in self._rows_of.items():
      source = self._sources.get(name, {})
      names = _names_of(name, source)
      folder_of.append(numbers.setdefault(names, len(numbers)))
      dates.append(source.get('mtime_ns', math.nan) / 1e9)
      stated = source.get('duration')
      seconds.append(np.max(ends[rows]) if stated is None else stated)
    self.folders = list(numbers)
    self.folder_of = np.asarray(folder_of, np.int64)
    self.dates = np.asarray(dates, np.float64)
    self.seconds = np.asarray(seconds, np.float64)

  def __len__(self) -> int:
    """The number of videos."""
    return len(self.ids)

  def file(self, name: str) -> File:
    """Returns the file of a video."""
    source = self._sources.get(name, {})
    path = source.get('file', '')
    below = _names_of(name, source)[-1]
    title = pathlib.PurePath(path or name).name
    date = ''
    if 'mtime_ns' in source:
      # A damaged file system gives years that no calendar has.
      with contextlib.suppress(ValueError, OverflowError, OSError):
        moment = datetime.datetime.fromtimestamp(source['mtime_ns'] / 1e9)
        date = moment.strftime('%Y-%m-%d')
    return File(path, below, text.normal(shown(title)), date)

  def content(self, name: str) -> str:
    """Returns the hash of a video's file; '' if unknown."""
    return self._sources.get(name, {}).get('hash', '')

  def rows(self, passing: Bool[np.ndarray, ' v']) -> Bool[np.ndarray, ' rows']:
    """Returns which rows of the index belong to some of its videos."""
    found = np.zeros(self._rows, bool)
    for name, passes in zip(self.ids, passing, strict=True):
      if passes:
        found[self._rows_of[name]] = True
    return found


def _names_of(name: str, source: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the names of a video's folder; the last is below the folder that
  was indexed, or comes from the id if the file is unknown."""
  path = source.get('file', '')
  if not path:
    return (_parent(name),)
  folder, root = pathlib.PurePath(path).parent, source.get('root', '')
  try:
    below = folder.relative_to(root).as_posix()
  except ValueError:
    below = folder.as_posix()
  named = lambda x: text.normal(shown(x))
  return named(folder.as_posix()), named('' if below == '.' else below)


def _parent(name: str) -> str:
  return name.rpartition('/')[0]
