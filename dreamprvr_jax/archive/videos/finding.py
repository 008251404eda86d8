"""The video files of folders, and their ids."""

import collections
import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterable

from data_pipeline.errors import DataError
from data_pipeline.importers.annotations import id_of_file
from dreamprvr_jax.archive.videos.containers import (
  ENDINGS,
  is_video,
  looks_like_media,
)
from dreamprvr_jax.archive.videos.files import shown

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class File:
  """A video file.

  Attributes:
    path: Its absolute path.
    root: The given folder that it is in; that of a file that was given itself.
  """

  path: pathlib.Path
  root: pathlib.Path

  @property
  def below(self) -> str:
    """Its path below the root, with `/` between folders, as printable text."""
    return shown(self.path.relative_to(self.root).as_posix())


@dataclasses.dataclass(frozen=True)
class Listing:
  """What some folders have.

  Attributes:
    files: The video files, each once, sorted by path.
    passed: Number of other files that look like media, by ending.
    unread: Folders and files that are there and cannot be read: what they have
      is not known.
    away: Places and links that lead nowhere, and folders without any file: what
      they had may be on a disk that is not mounted.
  """

  files: list[File]
  passed: collections.Counter[str]
  unread: list[pathlib.Path]
  away: list[pathlib.Path]


def list_videos(places: Iterable[os.PathLike[str] | str]) -> Listing:
  """Returns the videos of folders and all folders in them, and single files.

  Links to folders are followed, and each folder is read once. A file that has
  several paths is listed once. Hidden files and folders are passed over.

  Args:
    places: Folders and files; one that does not exist is listed as away.
  """
  walk = _Walk()
  for place in places:
    path = pathlib.Path(place).absolute()
    if os.path.isdir(path):
      walk.folder(path)
    elif os.path.exists(path):
      walk.file(path, path.parent, is_given=True)
    else:
      walk.nothing(path)
  return walk.listing()


def find_videos(folder: os.PathLike[str] | str) -> dict[str, pathlib.Path]:
  """Returns {id: file} of a folder and all folders in it, sorted by path.

  Ids come from `id_of_file`; a byte of a name that is not UTF-8 becomes '%'
  and two digits. Where files would have one id, each gets its ending as well;
  where that is the same, too, the folders below the given one.

  Raises:
    DataError: If the folder is missing or has no video.
  """
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise DataError(
      f'{shown(root)} is no folder; give the folder of the videos'
    )
  listing = list_videos([root])
  if not listing.files:
    raise DataError(f'{shown(root)} has no video{told_passed(listing.passed)}')
  if listing.passed:
    _log.info('%s%s', shown(root), told_passed(listing.passed))
  names = _short_ids([file.below for file in listing.files])
  return {
    name: root / file.path.relative_to(file.root)
    for name, file in zip(names, listing.files, strict=True)
  }


def told_passed(passed: collections.Counter[str]) -> str:
  """Returns a clause about files that are no videos; '' if there are none."""
  few = ', '.join(f'{count:,} {end}' for end, count in sorted(passed.items()))
  return f'; passed over as no videos: {few}' if few else ''


def _short_ids(names: list[str]) -> list[str]:
  """Returns an id for each path below a folder, all different."""
  # `id_of_file` cuts an ending off.
  levels = [
    (
      id_of_file(path.name),
      id_of_file(f'{path.name}.x'),
      id_of_file('_'.join(path.parts)),
      id_of_file('_'.join(path.parts) + '.x'),
    )
    for path in map(pathlib.PurePosixPath, names)
  ]
  chosen = [0] * len(names)
  while True:
    ids = [own[level] for own, level in zip(levels, chosen, strict=True)]
    counts = collections.Counter(ids)
    twice = [
      number
      for number, name in enumerate(ids)
      if counts[name] > 1 and chosen[number] < len(levels[number]) - 1
    ]
    if not twice:
      break
    for number in twice:
      chosen[number] += 1
  return numbered(ids)


def numbered(ids: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
  """Returns ids that are all different: one that is taken gets a number."""
  used, found = set(taken), []
  for name in ids:
    own, number = name, 1
    while own in used:
      number += 1
      own = f'{name}_{number}'
    used.add(own)
    found.append(own)
  return found


class _Walk:
  """A pass over folders."""

  def __init__(self):
    self._unread: list[pathlib.Path] = []
    self._away: list[pathlib.Path] = []
    self._passed: collections.Counter[str] = collections.Counter()
    self._read: set[pathlib.Path] = set()
    # Real path -> file. Links come after files, so that files have the paths
    # that people know.
    self._files: dict[pathlib.Path, File] = {}
    self._links: list[tuple[pathlib.Path, File]] = []

  def listing(self) -> Listing:
    for real, file in self._links:
      self._files.setdefault(real, file)
    files = sorted(self._files.values(), key=lambda file: file.path)
    unread, away = sorted(set(self._unread)), sorted(set(self._away))
    return Listing(files, self._passed, unread, away)

  def folder(self, root: pathlib.Path) -> None:
    """Reads a folder and all folders in it."""
    top = root.resolve()
    folders, links = [root], []
    while folders or links:
      path = folders.pop() if folders else links.pop(0)
      real = path.resolve()
      if real in self._read:
        continue
      above = {*top.parents, *path.parent.resolve().parents}
      if path != root and path.is_symlink() and real in above:
        _log.warning(
          '%s is passed over: it leads to a folder that contains it',
          shown(path),
        )
        continue
      self._read.add(real)
      for entry in self._entries(path):
        here = path / entry.name
        if entry.name.startswith('.'):
          continue
        if os.path.isdir(here):
          (links if entry.is_symlink() else folders).append(here)
        elif os.path.isfile(here):
          self.file(here, root, real=real / entry.name)
        else:
          self.nothing(here)

  def file(
    self,
    path: pathlib.Path,
    root: pathlib.Path,
    *,
    real: pathlib.Path | None = None,
    is_given: bool = False,
  ) -> None:
    """Takes a file, or counts it as passed over.

    Args:
      path: Its path.
      root: The given folder that it is in.
      real: Its real path, unless it is a link.
      is_given: Whether the user named it: it is taken whatever its name.
    """
    try:
      taken = is_given or is_video(path)
    except OSError:
      # Decoding will say what is wrong with it.
      taken = True
    if not taken:
      if looks_like_media(path.name):
        self._passed[shown(path.suffix.lower())] += 1
    elif path.is_symlink() or real is None:
      self._links.append((path.resolve(), File(path, root)))
    else:
      self._files[real] = File(path, root)

  def nothing(self, path: pathlib.Path) -> None:
    """Notes why a path leads to no file and no folder, if it is not another
    thing, such as a pipe."""
    try:
      path.stat()
      return
    except (FileNotFoundError, NotADirectoryError):
      self._away.append(path)
      why = 'it leads nowhere'
    except OSError as error:
      self._unread.append(path)
      why = f'{error.strerror}'
    if path.suffix.lower() in ENDINGS:
      _log.warning('%s is passed over: %s', shown(path), why)

  def _entries(self, path: pathlib.Path) -> list[os.DirEntry[str]]:
    try:
      found = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
      self._unread.append(path)
      _log.warning('%s is passed over (%s)', shown(path), error.strerror)
      return []
    if not found:
      self._away.append(path)
    return found
