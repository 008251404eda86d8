"""The packets of a clip that is cut out of a video: copied or encoded."""

import contextlib
import dataclasses
import fractions
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from dreamprvr_jax.archive.videos.files import import_av, opened
from dreamprvr_jax.archive.videos.pixels import Pixels
from dreamprvr_jax.archive.videos.presentation import Shown

# Seconds from the start of the clip, and a packet of it.
Timed = tuple[float, Any]

# Ticks of a second in which the times of encoded pictures are written: most
# rates divide it, and MPEG-4 allows no more than 65,535.
_TICKS = 60_000
# Encoders of pictures by preference, and their options.
_ENCODERS = (
  ('libx264', {'crf': '20', 'preset': 'veryfast'}),
  ('mpeg4', {'qmin': '2', 'qmax': '6'}),
)
# Rates that are believed, in pictures per second.
_SLOWEST, _FASTEST = 1, 120
# Kinds of sound that players of MP4 know; others are encoded.
_SOUND = ('aac', 'mp3')
# Reading sound begins so many seconds before the start; None: at the start of
# the file. The first packet may be up to the slack late.
_BACK = (1.0, None)
_LATE = 0.25


@dataclasses.dataclass(frozen=True)
class Clock:
  """Where a clip begins and ends.

  Attributes:
    start: Second of the whole file at which it begins.
    end: Second at which it ends.
    offset: The file's own clock at second 0.
  """

  start: float
  end: float
  offset: float

  def of(self, ticks: int, base: Any) -> float:
    """Returns the second of the clip for a time of the file's own clock."""
    return float(ticks * base) - self.offset - self.start

  @property
  def length(self) -> float:
    """Seconds of the clip."""
    return self.end - self.start


class CopiedPictures:
  """The packets of pictures from a key frame on, as they are in the file.

  Attributes:
    end: Second of the whole file at which the pictures read so far end.
  """

  def __init__(
    self, out: Any, container: Any, stream: Any, clock: Clock, key: int
  ):
    """Adds a stream to the file that is written.

    Args:
      out: PyAV's container that is written.
      container: That of the video.
      stream: The stream of its pictures.
      clock: Start and end of the clip.
      key: Ticks of the key frame.
    """
    self.end = clock.start
    self._container, self._stream = container, stream
    self._clock, self._key = clock, key
    self._target = out.add_stream_from_template(stream)

  def __iter__(self) -> Iterator[Timed]:
    """Yields the packets in the order of decoding."""
    self._container.seek(self._key, stream=self._stream)
    # Packets that are shown after the end, but may be needed for earlier ones.
    waiting: list[Any] = []
    for packet in _in_order(self._container.demux(self._stream)):
      base = packet.time_base
      if packet.pts < self._key:
        continue
      if self._clock.of(packet.dts, base) >= self._clock.length:
        return
      waiting.append(packet)
      if self._clock.of(packet.pts, base) < self._clock.length:
        for ready in waiting:
          yield self._shifted(ready)
        waiting = []

  def _shifted(self, packet: Any) -> Timed:
    until = packet.pts + (packet.duration or 0)
    seconds = self._clock.of(until, packet.time_base)
    self.end = max(self.end, self._clock.start + seconds)
    packet.pts -= self._key
    packet.dts -= self._key
    packet.stream = self._target
    return float(packet.dts * packet.time_base), packet


class EncodedPictures:
  """The pictures of a stretch, encoded again.

  Attributes:
    end: Second of the whole file at which the pictures read so far end.
  """

  def __init__(
    self,
    out: Any,
    pictures: Iterable[Shown],
    stream: Any,
    clock: Clock,
    lines: int = 0,
  ):
    """Decodes the first picture, and adds a stream to the file that is written.

    Args:
      out: PyAV's container that is written.
      pictures: Pictures of the video, from the start of the clip or earlier on.
      stream: Their stream.
      clock: Start and end of the clip.
      lines: Lines of a picture, at most; 0 for any number.
    """
    self.end = clock.start
    self._clock, self._pixels = clock, Pixels(stream)
    late = itertools.dropwhile(
      lambda x: x.until <= clock.start, lasting(pictures)
    )
    first = next(late)
    self._pictures = itertools.chain([first], late)
    height, width = self._pixels.shape(first.frame)
    share = min(lines / height, 1.0) if lines else 1.0
    # Half of the colours is stored, so sizes have to be even.
    self._shape = (
      max(int(height * share) // 2 * 2, 2),
      max(int(width * share) // 2 * 2, 2),
    )
    # A turned or stretched picture is rebuilt from RGB.
    self._is_plain = first.frame.side_data.get('DISPLAYMATRIX') is None and (
      height,
      width,
    ) == (first.frame.height, first.frame.width)
    self._target = _picture_stream(out, stream, self._shape)
    if self._is_plain:
      _keep_colours(self._target.codec_context, first.frame)

  def __iter__(self) -> Iterator[Timed]:
    """Yields the packets in the order of decoding."""
    lengths: dict[int, int] = {}
    last = -1
    for picture in self._pictures:
      if picture.time >= self._clock.end:
        break
      start = max(picture.time - self._clock.start, 0.0)
      until = min(picture.until, self._clock.end)
      # The first picture is there from the start.
      ticks = max(round(start * _TICKS), last + 1) if last >= 0 else 0
      self.end, last = until, ticks
      lengths[ticks] = max(
        round((until - self._clock.start) * _TICKS) - ticks, 1
      )
      frame = self._scaled(picture.frame)
      frame.pts, frame.time_base = ticks, fractions.Fraction(1, _TICKS)
      yield from self._timed(_encoded(self._target, frame), lengths)
    yield from self._timed(_encoded(self._target, None), lengths)

  def _timed(
    self, packets: Iterable[Any], lengths: dict[int, int]
  ) -> Iterator[Timed]:
    for packet in packets:
      # Encoders leave it out, and the last picture would have no length.
      packet.duration = lengths.pop(packet.pts)
      yield float(packet.dts * packet.time_base), packet

  def _scaled(self, frame: Any) -> Any:
    """Returns a picture as it is encoded."""
    height, width = self._shape
    if self._is_plain:
      return frame.reformat(width=width, height=height, format='yuv420p')
    image = self._pixels.upright(frame, height, width)
    av = import_av()
    return av.VideoFrame.from_ndarray(image, format='rgb24').reformat(
      format='yuv420p'
    )


def lasting(pictures: Iterable[Shown]) -> Iterator[Shown]:
  """Yields pictures, each of which lasts until the next one at least."""
  before = None
  for picture in pictures:
    if before is not None:
      yield dataclasses.replace(before, until=max(picture.time, before.time))
    before = picture
  if before is not None:
    yield before


def _in_order(packets: Iterable[Any]) -> Iterator[Any]:
  """Yields packets of pictures with times of decoding.

  After a jump, Matroska's reader does not know those of the first few.
  """
  waiting: list[Any] = []
  for packet in packets:
    if packet.pts is None:
      continue
    waiting.append(packet)
    if packet.dts is None:
      continue
    for i in reversed(range(len(waiting) - 1)):
      step = packet.duration or 1
      waiting[i].dts = min(waiting[i + 1].dts - step, waiting[i].pts)
    yield from waiting
    waiting = []


def sound(
  out: Any, path: str, clock: Clock, stack: contextlib.ExitStack
) -> Iterator[Timed]:
  """Returns the packets of the sound of a clip; none if it has none.

  Args:
    out: PyAV's container that is written; a stream is added to it.
    path: The video.
    clock: Start and end of the clip.
    stack: Closes the video.
  """
  for back in _BACK:
    container, _ = stack.enter_context(opened(path))
    source = next(iter(container.streams.audio), None)
    if source is None or source.codec_context is None:
      return iter(())
    packets = _packets(container, source, clock, back)
    first = next(packets, None)
    if first is None:
      continue
    late = clock.of(first.pts, first.time_base) > _LATE
    if late and back is not None and clock.start > back:
      continue
    packets = itertools.chain([first], packets)
    if source.codec_context.codec.canonical_name in _SOUND:
      return _copied_sound(out.add_stream_from_template(source), packets, clock)
    target = out.add_stream('aac', rate=source.codec_context.sample_rate)
    target.layout = 'mono' if source.codec_context.channels == 1 else 'stereo'
    return _encoded_sound(target, packets, clock)
  return iter(())


def _packets(
  container: Any, source: Any, clock: Clock, back: float | None
) -> Iterator[Any]:
  """Yields the packets of sound from shortly before the start on."""
  if back is not None and clock.start > back:
    seconds = clock.offset + clock.start - back
    with contextlib.suppress(import_av().error.FFmpegError):
      container.seek(int(seconds / source.time_base), stream=source)
  for packet in container.demux(source):
    if packet.pts is not None:
      if clock.of(packet.pts, packet.time_base) >= clock.length:
        return
      yield packet


def _copied_sound(
  target: Any, packets: Iterable[Any], clock: Clock
) -> Iterator[Timed]:
  for packet in packets:
    seconds = clock.of(packet.pts, packet.time_base)
    if seconds >= 0:
      packet.pts = packet.dts = round(seconds / packet.time_base)
      packet.stream = target
      yield seconds, packet


def _encoded_sound(
  target: Any, packets: Iterable[Any], clock: Clock
) -> Iterator[Timed]:
  rate = target.codec_context.sample_rate
  for packet in packets:
    with contextlib.suppress(import_av().error.InvalidDataError):
      for frame in packet.decode():
        if frame.pts is None:
          continue
        seconds = clock.of(frame.pts, frame.time_base)
        if 0 <= seconds < clock.length:
          frame.pts = round(seconds * frame.sample_rate)
          frame.time_base = fractions.Fraction(1, frame.sample_rate)
          yield from _timed_sound(_encoded(target, frame), rate)
  yield from _timed_sound(_encoded(target, None), rate)


def _timed_sound(packets: Iterable[Any], rate: int) -> Iterator[Timed]:
  for packet in packets:
    yield float(packet.pts) / rate, packet


def _encoded(target: Any, frame: Any) -> Iterable[Any]:
  """Returns what an encoder makes of a frame, or of the last ones for None."""
  try:
    return target.encode(frame)
  except import_av().error.FFmpegError as error:
    # The video is not at fault, to which `opened` would attribute it.
    raise RuntimeError(f'{target.name} failed ({error})') from error


def _picture_stream(out: Any, stream: Any, shape: tuple[int, int]) -> Any:
  """Returns a new stream of pictures of (height, width)."""
  name, options = next(
    (name, options)
    for name, options in _ENCODERS
    if name in import_av().codecs_available
  )
  rate = stream.average_rate or 0
  rate = rate if _SLOWEST <= rate <= _FASTEST else 25
  found = out.add_stream(
    name, rate=fractions.Fraction(rate).limit_denominator(1001), options=options
  )
  found.height, found.width = shape
  found.pix_fmt = 'yuv420p'
  found.time_base = fractions.Fraction(1, _TICKS)
  found.codec_context.time_base = fractions.Fraction(1, _TICKS)
  return found


def _keep_colours(codec: Any, frame: Any) -> None:
  """Says that colours mean what they mean in a picture of the video."""
  for name in ('color_primaries', 'color_trc', 'colorspace', 'color_range'):
    setattr(codec, name, getattr(frame, name))
