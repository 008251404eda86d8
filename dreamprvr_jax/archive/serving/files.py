"""The video files of a folder, by the ids of their videos."""

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
# What opening says of a file that is gone, that is or is below a link, or that
# must not be read.
_GONE = {
  errno.ENOENT,
  errno.ENOTDIR,
  errno.ELOOP,
  errno.EMLINK,
  errno.ENXIO,
  errno.EACCES,
  errno.EPERM,
}
# A pipe that took a file's place must not block whoever opens it.
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
    path: Where it is, with no link left in it.
    media_type: For example 'video/mp4'.
  """

  path: pathlib.Path
  media_type: str


class VideoFiles:
  """The files of a folder, as they were when this was made.

  An id is looked up and never becomes part of a path, and a link that leads
  out of the folder counts as no file: nothing else can be asked for. What
  became a link later, or is in a folder that did, is no file any more.
  """

  def __init__(
    self,
    folder: os.PathLike[str] | str = '',
    paths: Mapping[str, pathlib.Path] | None = None,
  ):
    """Args:
    folder: Where the files are.
    paths: {id: file}, in the folder or below it; None: there are none.
    """
    self._root = pathlib.Path(folder).resolve()
    self._files: dict[str, VideoFile] = {}
    for video, path in (paths or {}).items():
      kind, real = MEDIA_TYPES.get(path.suffix.lower()), path.resolve()
      if kind and real.is_relative_to(self._root):
        self._files[normal(video)] = VideoFile(real, kind)

  def __len__(self) -> int:
    """The number of videos that have a file."""
    return len(self._files)

  def get(self, video: str) -> VideoFile | None:
    """Returns the file of a video, None if it has none (any more)."""
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
  """Returns the descriptor of a file below a folder, reached without a link.

  Raises:
    OSError: If there is none.
  """
  if os.open not in os.supports_dir_fd:
    if path.resolve() != path:
      raise FileNotFoundError(path)
    return os.open(path, _FLAGS)
  # Step by step, so that no folder can become a link between two looks.
  *folders, name = path.relative_to(root).parts
  with contextlib.ExitStack() as stack:
    here = os.open(root, _FLAGS | os.O_DIRECTORY)
    stack.callback(os.close, here)
    for folder in folders:
      here = os.open(folder, _FLAGS | os.O_DIRECTORY, dir_fd=here)
      stack.callback(os.close, here)
    return os.open(name, _FLAGS, dir_fd=here)
