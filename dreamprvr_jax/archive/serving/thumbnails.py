"""Small pictures from video files, made on demand."""

import collections
import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from dreamprvr_jax.archive.serving.files import VideoFile
from dreamprvr_jax.archive.serving.limits import Busy
from dreamprvr_jax.archive.videos.files import VideoError, shown
from dreamprvr_jax.archive.videos.presentation import picture_at
from dreamprvr_jax.archive.videos.strips import pictures_at
from dreamprvr_jax.errors import UserError

# The largest thumbnail; the height matters for extremely tall pictures.
_WIDTH, _HEIGHT = 320, 1280
_QUALITY = 80
# (width, height) of a picture in a strip.
TILE = (192, 108)
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
    step = round(seconds / _STEP)
    make = lambda: _jpeg(_small(file, step * _STEP))
    return self._found((_state(file), step), make)

  def strip(
    self, file: VideoFile, start: float, end: float, count: int
  ) -> bytes:
    """Returns a JPEG with frames of a stretch side by side: those in the middle
    of `count` equal parts, each `TILE` wide and high, on black.

    Raises:
      UserError: See `picture`.
    """
    first, last = round(start / _STEP), round(end / _STEP)
    step = (last - first) * _STEP / count
    times = [first * _STEP + (i + 0.5) * step for i in range(count)]
    key = (_state(file), first, last, count)
    return self._found(key, lambda: _jpeg(_tiles(file, times)))

  def _found(self, key: Any, make: Callable[[], bytes]) -> bytes:
    """Returns what is kept under a key; makes it if it is missing."""
    with self._lock:
      if key in self._kept:
        self._kept.move_to_end(key)
        return self._kept[key]
    with self._decoding:
      made = make()
    with self._lock:
      if key not in self._kept:
        self._kept[key] = made
        self._size += len(made)
      while self._size > self._kept_bytes:
        _, oldest = self._kept.popitem(last=False)
        self._size -= len(oldest)
    return made


def _state(file: VideoFile) -> tuple[Any, ...]:
  """Returns what changes when a file is replaced, as pictures are kept."""
  try:
    facts = file.path.stat()
  except OSError:
    # Decoding says what is wrong.
    return (file.path,)
  return file.path, facts.st_size, facts.st_mtime_ns


def picture_of(file: VideoFile, seconds: float) -> np.ndarray:
  """Returns the frame at a time in full size, (h, w, 3) uint8, RGB.

  Raises:
    UserError: If the package av is missing, or the file has no picture.
  """
  whole = lambda height, width: (height, width)
  with _blaming(file):
    return picture_at(str(file.path), seconds, whole)


def _small(file: VideoFile, seconds: float) -> np.ndarray:
  with _blaming(file):
    return picture_at(str(file.path), seconds, _size)


@contextlib.contextmanager
def _blaming(file: VideoFile) -> Iterator[None]:
  """Names a file in errors without its folder, which clients do not know."""
  try:
    yield
  except VideoError as error:
    name = shown(file.path.name)
    raise UserError(f'{name} gives no picture: it {error.reason}') from error


def _tiles(file: VideoFile, times: Sequence[float]) -> np.ndarray:
  width, height = TILE
  strip = np.zeros((height, width * len(times), 3), np.uint8)
  with _blaming(file):
    pictures = pictures_at(str(file.path), times, _tile_size)
  for place, picture in enumerate(pictures):
    top = (height - picture.shape[0]) // 2
    left = (width - picture.shape[1]) // 2 + place * width
    strip[top : top + picture.shape[0], left : left + picture.shape[1]] = (
      picture
    )
  return strip


def _jpeg(pixels: np.ndarray) -> bytes:
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, 'JPEG', quality=_QUALITY)
  return out.getvalue()


def _size(height: int, width: int) -> tuple[int, int]:
  """Returns (height, width) of the thumbnail of a picture."""
  scale = min(_WIDTH / width, _HEIGHT / height)
  return max(round(height * scale), 1), max(round(width * scale), 1)


def _tile_size(height: int, width: int) -> tuple[int, int]:
  """Returns (height, width) of a picture inside a tile."""
  scale = min(TILE[0] / width, TILE[1] / height)
  return (
    min(max(round(height * scale), 1), TILE[1]),
    min(max(round(width * scale), 1), TILE[0]),
  )
