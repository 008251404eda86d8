"""Small pictures from video files, made on demand."""

import collections
import contextlib
import io
import threading
from collections.abc import Iterator
from typing import Any

from PIL import Image

from dreamprvr_jax.archive.serving.files import VideoFile
from dreamprvr_jax.archive.serving.limits import Busy
from dreamprvr_jax.archive.videos.files import VideoError, shown
from dreamprvr_jax.archive.videos.presentation import picture_at, start_of
from dreamprvr_jax.errors import UserError

# The largest thumbnail; the height matters for extremely tall pictures.
_WIDTH, _HEIGHT = 320, 1280
_QUALITY = 80
# Times of pictures are rounded to so many seconds.
_STEP = 0.25


class Thumbnails:
  """Makes pictures and keeps the latest; many threads may use it."""

  def __init__(self, *, waiting: int, kept_bytes: int):
    """Makes no picture yet.

    Args:
      waiting: Pictures that are being made or wait for it, at most; see
        `turn`.
      kept_bytes: Bytes of the pictures that are kept.
    """
    self._kept: collections.OrderedDict[Any, bytes] = collections.OrderedDict()
    self._kept_bytes, self._size = kept_bytes, 0
    self._waiting = threading.BoundedSemaphore(waiting)
    # One picture at a time: a decoder has several threads.
    self._decoding, self._lock = threading.Lock(), threading.Lock()

  @contextlib.contextmanager
  def turn(self) -> Iterator[None]:
    """Counts a picture that waits or is being made.

    Raises:
      Busy: If there are too many.
    """
    if not self._waiting.acquire(blocking=False):
      raise Busy('too many pictures are waiting to be made')
    try:
      yield
    finally:
      self._waiting.release()

  def picture(self, file: VideoFile, seconds: float) -> bytes:
    """Returns a JPEG of the frame at a time, or of the last one if the video is
    shorter.

    Raises:
      UserError: If the package av is missing, or the file has no picture.
    """
    key = file.path, round(seconds / _STEP)
    with self._lock:
      if key in self._kept:
        self._kept.move_to_end(key)
        return self._kept[key]
    with self._decoding:
      made = _made(file, key[1] * _STEP)
    with self._lock:
      if key not in self._kept:
        self._kept[key] = made
        self._size += len(made)
      while self._size > self._kept_bytes:
        _, oldest = self._kept.popitem(last=False)
        self._size -= len(oldest)
    return made


def start_of_file(file: VideoFile) -> float:
  """Returns the time that a file's own clock shows at second 0.

  Raises:
    UserError: If the package av is missing, or the file is no video.
  """
  try:
    return start_of(str(file.path))
  except VideoError as error:
    raise UserError(f'{shown(file.path.name)} {error.reason}') from error


def _made(file: VideoFile, seconds: float) -> bytes:
  try:
    pixels = picture_at(str(file.path), seconds, _size)
  except VideoError as error:
    name = shown(file.path.name)
    raise UserError(f'{name} gives no picture: it {error.reason}') from error
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, 'JPEG', quality=_QUALITY)
  return out.getvalue()


def _size(height: int, width: int) -> tuple[int, int]:
  """Returns (height, width) of the thumbnail of a picture."""
  scale = min(_WIDTH / width, _HEIGHT / height)
  return max(round(height * scale), 1), max(round(width * scale), 1)
