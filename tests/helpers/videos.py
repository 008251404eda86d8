"""Tiny real video files, good and bad."""

import fractions
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

# Ending of a file -> usual codec of its container.
CODECS = {
  '.mp4': 'libx264',
  '.avi': 'mpeg4',
  '.mkv': 'libx264',
  '.webm': 'libvpx-vp9',
  '.mov': 'mpeg4',
}


def picture(step: int, height: int, width: int) -> np.ndarray:
  """Returns (h, w, 3) uint8: the left half gets brighter, the right half is
  red."""
  image = np.zeros((height, width, 3), np.uint8)
  image[:, : width // 2] = min(10 + 8 * step, 250)
  image[:, width // 2 :, 0] = 220
  return image


def scene(seed: int) -> Callable[[int, int, int], np.ndarray]:
  """Returns what draws a scene of its own for each seed: blocks of colours,
  other ones for each second of ten pictures."""

  def draw(step: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng([seed, step // 10])
    blocks = rng.integers(0, 256, (4, 4, 3), np.uint8)
    tall, wide = -(-height // 4), -(-width // 4)
    return blocks.repeat(tall, 0).repeat(wide, 1)[:height, :width]

  return draw


def make_video(
  path: pathlib.Path,
  *,
  pictures: int = 20,
  rate: int = 10,
  size: tuple[int, int] = (32, 48),
  codec: str = '',
  pixels: str = 'yuv420p',
  times: Sequence[int] | None = None,
  sound: tuple[float, float] | None = None,
  key_frames: int = 12,
  pixel: float = 1.0,
  options: dict[str, str] | None = None,
  draw: Callable[[int, int, int], np.ndarray] = picture,
) -> pathlib.Path:
  """Writes a video.

  Args:
    path: Path of the file; its ending chooses the container.
    pictures: Number of pictures.
    rate: Pictures per second.
    size: (height, width).
    codec: Codec of the pictures; '': the usual one of the container.
    pixels: Pixel format of the pictures.
    times: Times of the pictures, in 1 / rate seconds. The edit list of an MP4
      file hides those below 0.
    sound: First and last second of the sound.
    key_frames: Pictures per key frame.
    pixel: Width of a pixel over its height.
    options: Options of the container.
    draw: Returns the picture of a step, like `picture`.
  """
  import av

  with av.open(str(path), 'w', options=options or {}) as container:
    codec = codec or CODECS[path.suffix]
    stream = container.add_stream(codec, rate=rate)
    stream.height, stream.width = size
    stream.pix_fmt = pixels
    stream.codec_context.gop_size = key_frames
    if pixel != 1:
      stream.sample_aspect_ratio = fractions.Fraction(pixel)
    audio = None
    if sound:
      kind = 'libopus' if path.suffix == '.webm' else 'aac'
      audio = container.add_stream(kind, rate=48000)
      audio.layout = 'mono'
    for step in range(pictures):
      frame = av.VideoFrame.from_ndarray(draw(step, *size), format='rgb24')
      frame.pts = times[step] if times else step
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    if audio and sound:
      for frame in _sound(*sound, 48000):
        container.mux(audio.encode(frame))
      container.mux(audio.encode(None))
  return path


def _sound(begin: float, end: float, rate: int) -> Iterator[Any]:
  """Yields frames of a hum."""
  import av

  for start in range(int(begin * rate), int(end * rate), 1024):
    wave = np.sin(np.arange(start, start + 1024) / 20).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(wave[None], format='fltp', layout='mono')
    frame.sample_rate = rate
    frame.pts = start
    yield frame


def make_audio(path: pathlib.Path, seconds: float = 1.0) -> pathlib.Path:
  """Writes a file with sound and without pictures."""
  import av

  with av.open(str(path), 'w') as container:
    stream = container.add_stream('aac', rate=16000)
    stream.layout = 'mono'
    for frame in _sound(0, seconds, 16000):
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def turn(
  path: pathlib.Path,
  matrix: tuple[int, int, int, int] = (0, 1, -1, 0),
) -> pathlib.Path:
  """Marks an MP4 file to be shown turned or mirrored.

  Args:
    path: The file.
    matrix: The numbers (a, b, c, d), which move (x, y) to
      (a x + c y, b x + d y); by default a quarter turn clockwise.
  """
  raw = bytearray(path.read_bytes())
  unit, whole = 1 << 16, 1 << 30
  a, b, c, d = (x * unit for x in matrix)
  old = np.array([unit, 0, 0, 0, unit, 0, 0, 0, whole], '>i4').tobytes()
  new = np.array([a, b, 0, c, d, 0, 0, 0, whole], '>i4').tobytes()
  # The movie's own matrix comes first; players use the track's.
  place = raw.index(old, raw.index(b'tkhd'))
  raw[place : place + len(old)] = new
  path.write_bytes(raw)
  return path


def extract_or_die(job):
  """Ends the process at a file of a certain name, as a broken decoder may."""
  from dreamprvr_jax.archive.extraction import jobs

  if 'deadly' in job.name:
    os._exit(1)
  return jobs.extract(job)


class Odd(Exception):
  """An error that cannot be sent to another process."""

  def __init__(self, *, what: str):
    super().__init__(what)


def fail(job):
  """Fails at every file."""
  raise TypeError(f'a mistake at {job.name}')


def fail_oddly(job):
  """Fails with an error that cannot be pickled."""
  raise Odd(what=f'a mistake at {job.name}')


def end():
  """Ends a worker process at once."""
  os._exit(1)
