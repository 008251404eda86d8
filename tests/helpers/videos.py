"""Tiny real video files, good and bad."""

import os
import pathlib

import numpy as np

# Ending -> codec that its container usually holds.
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


def make_video(
  path: pathlib.Path,
  *,
  pictures: int = 20,
  rate: int = 10,
  size: tuple[int, int] = (32, 48),
  codec: str = '',
  pixels: str = 'yuv420p',
  times: list[int] | None = None,
) -> pathlib.Path:
  """Writes a video; `times` are those of the pictures, in 1 / rate seconds."""
  import av

  with av.open(str(path), 'w') as container:
    codec = codec or CODECS[path.suffix]
    stream = container.add_stream(codec, rate=rate)
    stream.height, stream.width = size
    stream.pix_fmt = pixels
    for step in range(pictures):
      frame = av.VideoFrame.from_ndarray(picture(step, *size), format='rgb24')
      frame.pts = times[step] if times else step
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def make_audio(path: pathlib.Path, seconds: float = 1.0) -> pathlib.Path:
  """Writes a file that has sound and no pictures."""
  import av

  with av.open(str(path), 'w') as container:
    stream = container.add_stream('aac', rate=16000)
    stream.layout = 'mono'
    for start in range(0, int(16000 * seconds), 1024):
      wave = np.sin(np.arange(start, start + 1024) / 20).astype(np.float32)
      frame = av.AudioFrame.from_ndarray(
        wave[None], format='fltp', layout='mono'
      )
      frame.sample_rate = 16000
      frame.pts = start
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def turn(path: pathlib.Path) -> pathlib.Path:
  """Marks an MP4 file as one to be shown a quarter turn clockwise."""
  raw = bytearray(path.read_bytes())
  unit, whole = 1 << 16, 1 << 30
  old = np.array([unit, 0, 0, 0, unit, 0, 0, 0, whole], '>i4').tobytes()
  new = np.array([0, unit, 0, -unit, 0, 0, 0, 0, whole], '>i4').tobytes()
  # The movie's own matrix comes first; the track's is the one that counts.
  place = raw.index(old, raw.index(b'tkhd'))
  raw[place : place + len(old)] = new
  path.write_bytes(raw)
  return path


def extract_or_die(job):
  """Ends the process where a file is called so, as a broken decoder may."""
  from extraction import jobs

  if 'deadly' in job.name:
    os._exit(1)
  return jobs.extract(job)
