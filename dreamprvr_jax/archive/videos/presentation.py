"""When the pictures of a file are shown, on the one clock of the project.

Second 0 is where a player begins: the first picture or sound of the file, after
its edit list, whatever the file's own clock says there. Sound from before
second 0 of the file's clock only starts the decoder and does not count.
"""

import dataclasses
import time as clocks
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamprvr_jax.archive.videos.files import (
  VideoError,
  import_av,
  is_torn,
  opened,
)
from dreamprvr_jax.archive.videos.pixels import Pixels, Resize

if TYPE_CHECKING:
  from av.container import InputContainer
  from av.video.stream import VideoStream

# Seconds between two pictures if the file does not say.
_STEP = 1 / 25
# A file may state a little more than it has; one that lacks more is truncated.
_HELD, _SLACK = 0.9, 1.0
# Share of damaged packets that a video may have.
_DAMAGED = 0.1
# Decoding begins so many seconds before the wanted one, as a file's index may
# lead too far; None: at the start.
_BACK = (0.0, 10.0, 60.0, None)
# A picture counts as shown at its own time even if that was rounded.
_ROUNDED = 1e-3
# Seconds that finding one picture may take.
_PATIENCE = 30.0


@dataclasses.dataclass(frozen=True)
class Shown:
  """A decoded picture.

  Attributes:
    frame: PyAV's frame.
    time: Second at which it appears, from the start.
    until: Second at which it disappears.
  """

  frame: Any
  time: float
  until: float


class Presentation:
  """The pictures of an open file, in the order and at the times of a player."""

  def __init__(
    self, path: str, container: 'InputContainer', stream: 'VideoStream'
  ):
    """Args:
    path: The file, for errors.
    container: See `opened`; it is read from its current position.
    stream: The stream of the pictures.
    """
    self.path = path
    self.container = container
    self.stream = stream
    rate = stream.average_rate
    self._step = float(1 / rate) if rate else _STEP

  @property
  def stated(self) -> float:
    """Seconds from the start to the end of the last picture, as the file states
    them; 0 if it does not."""
    pictures = self._of_pictures()
    if not pictures:
      return self._of_file()
    first = self._clock(self.stream.start_time) or 0.0
    return pictures + first - self._start(first)

  @property
  def at_least(self) -> float:
    """Seconds that a whole file lasts at least; 0 if it does not say."""
    return max(_HELD * self.stated - _SLACK, 0.0)

  def start(self) -> float:
    """Returns the time of the file's own clock at second 0; may decode a
    picture."""
    first = self._clock(self.stream.start_time)
    if first is None or first < 0 or self._has_no_clock():
      for frame in self._decoded():
        return self._start(self._clock(frame.pts, frame.time_base) or 0.0)
    return self._start(first or 0.0)

  def pictures(self) -> Iterator[Shown]:
    """Yields all pictures, from the start of the file.

    Raises:
      VideoError: After the last one, if there is none, too many are damaged, or
        the file ends before its stated length.
    """
    shown = first = None
    longest = max(self._of_pictures(), (self.container.duration or 0) / 1e6)
    start, before, here = 0.0, -self._step, None
    watched = _Watched()
    for frame in self._decoded(watched):
      clock = self._clock(frame.pts, frame.time_base)
      time = before + self._step
      if clock is not None:
        if here is None:
          here, start = clock, self._start(clock)
        # A clock that stands still, or jumps far beyond the end, is ignored.
        far = longest and clock - here > longest + self._step + _SLACK
        jumps = clock - start > time + _SLACK
        if clock - start > before and not (far and jumps):
          time = clock - start
      shown = self._shown(frame, time)
      first = time if first is None else first
      yield shown
      before = time
    self._check_damage(watched)
    if shown is None or first is None:
      raise self._error(
        'has no picture that can be decoded; copy or encode it again'
      )
    self._check_end(watched, shown.until - first, start)

  def near(self, seconds: float) -> Iterator[Shown]:
    """Yields the pictures from a key frame near a time on. If the file's index
    is bad, the first may be after that time, or there may be none."""
    start = self.start()
    if self.stated:
      seconds = min(seconds, max(self.stated - self._step, 0.0))
    place = int((start + seconds) / float(self.stream.time_base or 1))
    try:
      self.container.seek(place, stream=self.stream)
    except import_av().error.FFmpegError:
      # A file without an index can only be read from its start.
      return
    before = None
    for frame in self._decoded():
      clock = self._clock(frame.pts, frame.time_base)
      if clock is not None:
        before = clock - start
      elif before is None:
        return
      else:
        before += self._step
      yield self._shown(frame, before)

  def _shown(self, frame: Any, time: float) -> Shown:
    # Older versions of PyAV do not give the duration of a picture.
    lasts = getattr(frame, 'duration', 0) * float(frame.time_base or 0)
    return Shown(frame, time, time + (lasts or self._step))

  def _decoded(self, watched: '_Watched | None' = None) -> Iterator[Any]:
    """Yields the pictures; a few damaged packets are passed over."""
    av = import_av()
    watched = _Watched() if watched is None else watched
    for packet in self.container.demux():
      watched.see(packet)
      if packet.stream.index != self.stream.index:
        continue
      watched.packets += bool(packet.size)
      try:
        yield from packet.decode()
      except av.error.InvalidDataError:
        watched.damaged += 1

  def _clock(self, ticks: int | None, base: Any = None) -> float | None:
    base = self.stream.time_base if base is None else base
    return None if ticks is None or not base else float(ticks * base)

  def _has_no_clock(self) -> bool:
    # Pictures of AVI have an order and a rate; the times that a decoder gives
    # them include its own delay.
    return self.container.format.name == 'avi'

  def _start(self, first: float) -> float:
    """Returns the file's clock at second 0.

    Args:
      first: The file's clock at the first picture.
    """
    if self._has_no_clock():
      return first
    begun = [
      float(stream.start_time * stream.time_base)
      for stream in self.container.streams
      if stream.start_time is not None
      and stream.time_base
      and (stream.type == 'audio' or stream.index == self.stream.index)
    ]
    return min(max(min(begun, default=first), 0.0), first)

  def _of_pictures(self) -> float:
    """Returns the stated seconds of the pictures, or 0."""
    found = self._clock(self.stream.duration) or 0.0
    if self._has_no_clock() and self.stream.average_rate:
      # A truncated file still states the number of all pictures.
      pictures = self.stream.frames / self.stream.average_rate
      found = max(found, float(pictures))
    return found

  def _of_file(self, start: float | None = None) -> float:
    """Returns the stated seconds of the whole file, or 0."""
    total = (self.container.duration or 0) / 1e6
    if start is None:
      start = self._start(self._clock(self.stream.start_time) or 0.0)
    # Some files count from 0 of their clock, some from where they start.
    return total - start if total > start else total

  def _check_damage(self, watched: '_Watched') -> None:
    if watched.damaged > max(1, _DAMAGED * watched.packets):
      raise self._error(
        f'is damaged: {watched.damaged} of its {watched.packets} packets '
        'cannot be decoded; copy or encode it again'
      )

  def _check_end(
    self, watched: '_Watched', pictures: float, start: float
  ) -> None:
    """Raises VideoError if the end of a file is missing.

    Args:
      watched: The packets that were read.
      pictures: Seconds from the first picture to the end of the last.
      start: The file's clock at second 0.
    """
    if 0 < self.stream.frames <= watched.packets:
      return  # All pictures are there, whatever length it states.
    stated, held = self._of_pictures(), pictures
    if not stated:
      # Its pictures may end before its sound.
      stated, held = self._of_file(start), watched.end - start
      held = max(held, pictures)
    if held < _HELD * stated - _SLACK:
      raise self._error(
        f'ends after {held:.1f} of {stated:.1f} seconds: it is truncated or '
        'damaged; copy it again'
      )
    # An MP4 file in fragments does not state its length.
    fragments = not self.stream.frames and 'mp4' in self.container.format.name
    if fragments and is_torn(self.path):
      raise self._error(
        'ends in the middle of one of its parts: it is truncated; copy it again'
      )

  def _error(self, reason: str) -> VideoError:
    return VideoError(self.path, reason)


@dataclasses.dataclass
class _Watched:
  """The packets that were read.

  Attributes:
    packets: Number of packets with pictures.
    damaged: How many of these cannot be decoded.
    end: The file's clock at the end of the last picture or sound.
  """

  packets: int = 0
  damaged: int = 0
  end: float = 0.0

  def see(self, packet: Any) -> None:
    """Counts a packet of any stream."""
    if packet.pts is not None and packet.time_base:
      ticks = packet.pts + (packet.duration or 0)
      self.end = max(self.end, float(ticks * packet.time_base))


def picture_at(path: str, seconds: float, size: Resize) -> np.ndarray:
  """Returns the picture that is shown at a time, (h, w, 3) uint8, RGB, upright.

  Before the first picture it is the first, after the end the last.

  Args:
    path: The file.
    seconds: The time from the start.
    size: Returns the size of the result for (height, width) of the picture as
      shown.

  Raises:
    UserError: If PyAV is not installed.
    VideoError: If the file has no picture, or finding it takes too long.
  """
  late = clocks.monotonic() + _PATIENCE
  for back in _BACK:
    place = None if back is None or seconds <= back else seconds - back
    with opened(path) as (container, stream):
      film = Presentation(path, container, stream)
      frame = _last_until(film, place, seconds, late)
      if frame is not None:
        pixels = Pixels(stream)
        return pixels.upright(frame, *size(*pixels.shape(frame)))
  raise VideoError(
    path, 'has no picture that can be decoded; copy or encode it again'
  )


def _last_until(
  film: Presentation, place: float | None, seconds: float, late: float
) -> Any:
  """Returns the last picture up to a time; None if decoding began after it.

  Args:
    film: The file.
    place: Second at which decoding begins; None for the start.
    seconds: The time.
    late: When to give up, on the monotonic clock.
  """
  held = None
  pictures = film.pictures() if place is None else film.near(place)
  try:
    for shown in pictures:
      if shown.time > seconds + _ROUNDED:
        return shown.frame if held is None and place is None else held
      held = shown.frame
      if clocks.monotonic() > late:
        break
    else:
      return held
  except VideoError:
    # A truncated file has a last picture, too.
    if held is None:
      raise
    return held
  raise VideoError(
    film.path,
    f'takes more than {_PATIENCE:.0f} s to decode up to second {seconds:.1f}: '
    'its key frames are too far apart; encode it again',
  )
