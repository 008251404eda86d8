"""The video files of a folder, by the ids of their videos."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping

MEDIA_TYPES = {
  '.mp4': 'video/mp4',
  '.m4v': 'video/mp4',
  '.webm': 'video/webm',
  '.mov': 'video/quicktime',
  '.mkv': 'video/x-matroska',
  '.avi': 'video/x-msvideo',
}


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
  out of the folder counts as no file: nothing else can be asked for.
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
    root = pathlib.Path(folder).resolve()
    self._files: dict[str, VideoFile] = {}
    for video, path in (paths or {}).items():
      kind, real = MEDIA_TYPES.get(path.suffix.lower()), path.resolve()
      if kind and real.is_relative_to(root):
        self._files[video] = VideoFile(real, kind)

  def __len__(self) -> int:
    """The number of videos that have a file."""
    return len(self._files)

  def get(self, video: str) -> VideoFile | None:
    """Returns the file of a video, None if it has none (any more)."""
    found = self._files.get(video)
    return found if found and found.path.is_file() else None
