"""The video files of a folder, and their ids."""

import logging
import os
import pathlib
from collections.abc import Iterator

from data_pipeline.errors import DataError
from data_pipeline.importers.annotations import id_of_file
from dreamprvr_jax.archive.videos.files import shown

ENDINGS = ('.mp4', '.avi', '.mkv', '.webm', '.mov', '.m4v')

_log = logging.getLogger(__name__)


def find_videos(folder: os.PathLike[str] | str) -> dict[str, pathlib.Path]:
  """Returns {id: file} of a folder and all folders in it, sorted by path.

  Ids come from `id_of_file`; a byte of a name that is not UTF-8 becomes '%'
  and two digits. Links to folders are followed, and each folder is read once.
  Hidden files and folders are passed over.

  Raises:
    DataError: If the folder is missing or has no video, or two videos have one
      id.
  """
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise DataError(
      f'{shown(root)} is no folder; give the folder of the videos'
    )
  found: dict[str, pathlib.Path] = {}
  for path in sorted(_files(root)):
    name = id_of_file(shown(path.name))
    if name not in found:
      found[name] = path
    elif not _same(found[name], path):
      raise DataError(
        f'{shown(found[name])} and {shown(path)} have the same id {name!r}; '
        'rename one, or extract their folders into collections of their own '
        '(--collection)'
      )
  if not found:
    raise DataError(
      f'{shown(root)} has no video; names end in {" ".join(ENDINGS)}'
    )
  return found


def _files(root: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields the video files of a folder and of all folders in it."""
  top = root.resolve()
  read: set[pathlib.Path] = set()
  # Files of the folder come before linked ones, so that they have the paths
  # that people know.
  folders, links = [root], []
  while folders or links:
    path = folders.pop() if folders else links.pop(0)
    real = path.resolve()
    if real in read:
      continue
    above = {*top.parents, *path.parent.resolve().parents}
    if path != root and path.is_symlink() and real in above:
      _log.warning(
        '%s is passed over: it leads to a folder that contains it', shown(path)
      )
      continue
    read.add(real)
    try:
      entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
      _log.warning('%s is passed over (%s)', shown(path), error.strerror)
      continue
    for entry in entries:
      here = path / entry.name
      if entry.name.startswith('.'):
        continue
      if os.path.isdir(here):
        (links if entry.is_symlink() else folders).append(here)
      elif here.suffix.lower() in ENDINGS:
        if os.path.isfile(here):
          yield here
        elif entry.is_symlink():
          _log.warning('%s is passed over: it leads nowhere', shown(here))


def _same(one: pathlib.Path, other: pathlib.Path) -> bool:
  """Returns whether two paths lead to one file."""
  return one.resolve() == other.resolve()
