"""The video files of a folder, by video id."""

import contextlib
import dataclasses
import errno
import functools
import os
import pathlib
import stat
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from dreamprvr_jax.archive.videos.containers import ENDINGS
from dreamprvr_jax.archive.videos.files import shown
from dreamprvr_jax.text import normal

# Media types of the endings that browsers may play.
_PLAYED = {
  '.mp4': 'video/mp4',
  '.m4v': 'video/mp4',
  '.webm': 'video/webm',
  '.mov': 'video/quicktime',
  '.mkv': 'video/x-matroska',
  '.avi': 'video/x-msvideo',
  '.ogv': 'video/ogg',
  '.gif': 'image/gif',
  '.ts': 'video/mp2t',
  '.mts': 'video/mp2t',
  '.m2ts': 'video/mp2t',
  '.mpg': 'video/mpeg',
  '.mpeg': 'video/mpeg',
  '.wmv': 'video/x-ms-wmv',
  '.flv': 'video/x-flv',
  '.3gp': 'video/3gpp',
}
MEDIA_TYPES = {
  ending: _PLAYED.get(ending, 'application/octet-stream') for ending in ENDINGS
}
# Errors of opening a file that is missing, is a link or below one, or must not
# be read.
_GONE = {
  errno.ENOENT,
  errno.ENOTDIR,
  errno.ELOOP,
  errno.EMLINK,
  errno.ENXIO,
  errno.EACCES,
  errno.EPERM,
}
# A pipe that has replaced a file must not block.
_FLAGS = (
  os.O_RDONLY
  | getattr(os, 'O_NOFOLLOW', 0)
  | getattr(os, 'O_NONBLOCK', 0)
  | getattr(os, 'O_BINARY', 0)
)


@dataclasses.dataclass(frozen=True)
class VideoFile:
  """A file.

  Attributes:
    path: Its path, without links.
    media_type: For example 'video/mp4'.
    root: The folder that it is in or below, without links.
  """

  path: pathlib.Path
  media_type: str
  root: pathlib.Path

  @property
  def title(self) -> str:
    """Its name, as text."""
    return shown(self.path.name)

  @property
  def folder(self) -> str:
    """Its folder below the root, with `/` between names; '' for the root."""
    found = shown(self.path.parent.relative_to(self.root).as_posix())
    return '' if found == '.' else found


class VideoFiles:
  """The files of videos at the time when this object was made.

  Only these files can be opened: an id is looked up and never becomes part of a
  path, and links that lead out of the folder of a file are left out. A file
  that later becomes a link, or whose folder does, is not opened any more.
  """

  def __init__(
    self,
    folder: os.PathLike[str] | str = '',
    paths: Mapping[str, pathlib.Path] | None = None,
  ):
    """Args:
    folder: The folder.
    paths: {id: file}, in the folder or below it; None for no files.
    """
    self._files: dict[str, VideoFile] = {}
    top = pathlib.Path(folder).resolve()
    for video, path in (paths or {}).items():
      self._add(video, path, top)

  @classmethod
  def of_sources(cls, rows: Iterable[Mapping[str, Any]]) -> 'VideoFiles':
    """Returns the files that an index names.

    Args:
      rows: `id`, `file` and `root` of each video; see `Store.sources`.
    """
    found = cls()
    # The videos have few folders, and each look at a disk takes time.
    top = functools.cache(lambda root: pathlib.Path(root).resolve())
    for row in rows:
      found._add(row['id'], pathlib.Path(row['file']), top(row['root']))
    return found

  def _add(self, video: str, path: pathlib.Path, top: pathlib.Path) -> None:
    """Takes a file in or below a folder, which is given without links."""
    kind, real = MEDIA_TYPES.get(path.suffix.lower()), path.resolve()
    if kind and real.is_relative_to(top):
      self._files[normal(video)] = VideoFile(real, kind, top)

  def __len__(self) -> int:
    """The number of videos with a file."""
    return len(self._files)

  def get(self, video: str) -> VideoFile | None:
    """Returns the file of a video; None if it has none (any more)."""
    found = self.open(video)
    if not found:
      return None
    found[1].close()
    return found[0]

  def open(self, video: str) -> tuple[VideoFile, BinaryIO] | None:
    """Returns the file of a video, opened; None if it has none (any more)."""
    found = self._files.get(normal(video))
    if not found:
      return None
    try:
      opened = _opened(found.root, found.path)
    except OSError as error:
      if error.errno not in _GONE:
        raise
      return None
    if stat.S_ISREG(os.fstat(opened).st_mode):
      return found, os.fdopen(opened, 'rb')
    os.close(opened)
    return None


def _opened(root: pathlib.Path, path: pathlib.Path) -> int:
  """Returns the descriptor of a file below a folder, opened without following
  links.

  Raises:
    OSError: If it cannot be opened.
  """
  if os.open not in os.supports_dir_fd:
    if path.resolve() != path:
      raise FileNotFoundError(path)
    return os.open(path, _FLAGS)
  # Folder by folder, so that none can become a link in between.
  *folders, name = path.relative_to(root).parts
  with contextlib.ExitStack() as stack:
    here = os.open(root, _FLAGS | os.O_DIRECTORY)
    stack.callback(os.close, here)
    for folder in folders:
      here = os.open(folder, _FLAGS | os.O_DIRECTORY, dir_fd=here)
      stack.callback(os.close, here)
    return os.open(name, _FLAGS, dir_fd=here)
