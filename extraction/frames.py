"""Decoding: the pictures of a video file at a set rate, and how long it is."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.errors import DataError

if TYPE_CHECKING:
  from av.container import InputContainer

# (height, width) of a decoded picture -> that of the picture that is wanted
Resize = Callable[[int, int], tuple[int, int]]

# Seconds between two pictures where a file does not say.
_STEP = 1 / 25
# A file may state a little more than it holds; what lacks more is truncated.
_HELD, _SLACK = 0.9, 1.0
# Share of damaged packets with which a file still counts as a video.
_DAMAGED = 0.1
# Pixels that are said to be wider, or higher, than this are square.
_STRETCH = 10


class VideoError(DataError):
  """A file that is no video, or one that cannot be decoded.

  Attributes:
    path: The file.
    reason: What is wrong with it, and what to do.
  """

  def __init__(self, path: str, reason: str):
    super().__init__(path, reason)
    self.path = path
    self.reason = reason

  def __str__(self) -> str:
    return f'{self.path} {self.reason}'


@dataclasses.dataclass(frozen=True)
class Sample:
  """A picture of a video.

  Attributes:
    image: (h, w, 3) uint8, RGB, upright.
    time: Seconds from the first picture at which it is shown.
  """

  image: np.ndarray
  time: float


class Video:
  """One pass over the pictures of a file, in memory that does not grow.

  The file is cut into stretches of 1 / fps seconds; of each, the picture that
  is shown in its middle is taken. A file that is shorter than half a stretch
  gives its last picture.
  """

  def __init__(
    self, path: str, fps: float, resize: Resize, *, threads: int = 0
  ):
    """Remembers what to decode; nothing is opened yet.

    Args:
      path: The file.
      fps: Samples per second of presentation time.
      resize: Of the upright picture with square pixels.
      threads: Of the decoder; 0: as many as it likes.
    """
    if not fps > 0:
      raise DataError(f'fps={fps} must be above 0; 2 is usual')
    self.path = str(path)
    self.fps = fps
    # Seconds; known when all samples were taken.
    self.duration = float('nan')
    self._resize = resize
    self._threads = threads
    # Width of a pixel over its height.
    self._pixel = 1.0
    self._shape: tuple[int, int] | None = None

  def samples(self) -> Iterator[Sample]:
    """Yields the samples in order.

    Raises:
      VideoError: If the file is empty, broken, truncated, or has no pictures.
    """
    av = import_av()
    try:
      size = os.path.getsize(self.path)
    except OSError as error:
      raise self._error(f'cannot be read ({error.strerror})') from None
    if not size:
      raise self._error('is empty (0 bytes); copy it again')
    try:
      with av.open(self.path, metadata_errors='replace') as container:
        if not container.streams.video:
          kinds = sorted({str(stream.type) for stream in container.streams})
          others = ' and '.join(kinds) or 'nothing'
          raise self._error(f'holds no pictures, only {others}')
        yield from self._sampled(container)
    except VideoError:
      raise
    except Exception as error:  # whatever it is, it is about this file
      reason = getattr(error, 'strerror', None) or error
      raise self._error(
        f'cannot be decoded ({reason}); it is damaged, truncated or no video: '
        'copy or encode it again'
      ) from error

  def _sampled(self, container: 'InputContainer') -> Iterator[Sample]:
    ratio = float(container.streams.video[0].sample_aspect_ratio or 1)
    self._pixel = ratio if 1 / _STRETCH <= ratio <= _STRETCH else 1.0
    self._shape = None
    stated = _stated(container)
    held, image = None, None
    taken, end = 0, 0.0
    longest = max(stated, (container.duration or 0) / 1e6)
    for frame, time, until in self._timed(container, longest):
      while held is not None and (middle := (taken + 0.5) / self.fps) < time:
        image = self._image(held) if image is None else image
        yield Sample(image, middle)
        taken += 1
      held, image, end = frame, None, until
    if held is None:
      raise self._error(
        'holds no picture that can be decoded; copy or encode it again'
      )
    if end < _HELD * stated - _SLACK:
      raise self._error(
        f'ends after {end:.1f} of {stated:.1f} seconds: it is truncated or '
        'damaged; copy it again'
      )
    image = self._image(held) if image is None else image
    while (middle := (taken + 0.5) / self.fps) < end:
      yield Sample(image, middle)
      taken += 1
    if not taken:
      yield Sample(image, end / 2)
    self.duration = end

  def _timed(
    self, container: 'InputContainer', longest: float
  ) -> Iterator[tuple[Any, float, float]]:
    """Yields (picture, when it is shown, when it no longer is), in seconds
    from the first, rising."""
    stream = container.streams.video[0]
    stream.codec_context.thread_count = self._threads
    stream.thread_type = 'AUTO'
    step = float(1 / stream.average_rate) if stream.average_rate else _STEP
    first, before = None, -step
    for frame in self._decoded(container):
      time = before + step
      if frame.pts is not None and frame.time_base:
        clock = float(frame.pts * frame.time_base)
        first = clock if first is None else first
        # One that stands, or runs far beyond the end, is not believed.
        beyond = longest and clock - first > longest + step + _SLACK
        if clock - first > before and not beyond:
          time = clock - first
      # Older versions of PyAV do not say how long a picture is shown.
      lasts = getattr(frame, 'duration', 0) * float(frame.time_base or 0)
      yield frame, time, time + (lasts or step)
      before = time

  def _decoded(self, container: 'InputContainer') -> Iterator[Any]:
    """Yields the pictures; a few damaged packets are passed over."""
    av = import_av()
    packets = damaged = 0
    for packet in container.demux(video=0):
      packets += 1
      try:
        yield from packet.decode()
      except av.error.InvalidDataError:
        damaged += 1
    if damaged > max(1, _DAMAGED * packets):
      raise self._error(
        f'is damaged: {damaged} of its {packets} packets cannot be decoded; '
        'copy or encode it again'
      )

  def _image(self, frame: Any) -> np.ndarray:
    """Returns the upright picture as the encoder wants it."""
    turns = round(frame.rotation / 90) % 4
    if self._shape is None:
      shape = frame.height, max(round(frame.width * self._pixel), 1)
      self._shape = self._resize(*(shape[::-1] if turns % 2 else shape))
    # Of one size, whatever becomes of the file's.
    height, width = self._shape[::-1] if turns % 2 else self._shape
    small = frame.reformat(
      width=width, height=height, format='rgb24', interpolation='BICUBIC'
    )
    return np.ascontiguousarray(np.rot90(small.to_ndarray(), turns))

  def _error(self, reason: str) -> VideoError:
    return VideoError(self.path, reason)


def _stated(container: 'InputContainer') -> float:
  """Returns the seconds that the file says its pictures last; 0: it does not
  say."""
  stream = container.streams.video[0]
  found = 0.0
  if stream.duration and stream.time_base:
    found = float(stream.duration * stream.time_base)
  elif container.duration and len(container.streams) == 1:
    found = container.duration / 1e6
  if stream.average_rate:
    # Of an AVI file without its end, the number of pictures is still the whole.
    found = max(found, float(stream.frames / stream.average_rate))
  return found


def import_av() -> Any:
  """Returns PyAV.

  Raises:
    DataError: If it is not installed.
  """
  try:
    import av
  except ImportError as error:
    raise DataError(
      f'videos are decoded with PyAV, which cannot be imported ({error}); '
      "install it: pip install 'dreamprvr_jax[videos]' or pip install av"
    ) from None
  return av
