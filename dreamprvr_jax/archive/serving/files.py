"""The video files of a folder, by video id."""

import contextlib
import dataclasses
import errno
import os
import pathlib
import stat
from collections.abc import Mapping
from typing import BinaryIO

from dreamprvr_jax.text import normal

MEDIA_TYPES = {
  '.mp4': 'video/mp4',
  '.m4v': 'video/mp4',
  '.webm': 'video/webm',
  '.mov': 'video/quicktime',
  '.mkv': 'video/x-matroska',
  '.avi': 'video/x-msvideo',
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
  """

  path: pathlib.Path
  media_type: str


class VideoFiles:
  """The files of a folder at the time when this object was made.

  Only these files can be opened: an id is looked up and never becomes part of a
  path, and links that lead out of the folder are left out. A file that later
  becomes a link, or whose folder does, is not opened any more.
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
    self._root = pathlib.Path(folder).resolve()
    self._files: dict[str, VideoFile] = {}
    for video, path in (paths or {}).items():
      kind, real = MEDIA_TYPES.get(path.suffix.lower()), path.resolve()
      if kind and real.is_relative_to(self._root):
        self._files[normal(video)] = VideoFile(real, kind)

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
      opened = _opened(self._root, found.path)
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
