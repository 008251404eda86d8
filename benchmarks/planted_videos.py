"""Long videos with short clips planted at known times, for `planted.py`.

Clips are encoded once, small and with key frames at their beginnings; a long
video is their packets one after the other, so that hours take seconds to write.
"""

import dataclasses
import fractions
import pathlib
from collections.abc import Sequence
from typing import Any

import av
import numpy as np

SIZE, RATE = (120, 160), 5
# Seconds of a planted piece, at most, and at least: cut out of longer clips.
_LONGEST, _SHORTEST = 8.0, 3.0


@dataclasses.dataclass(frozen=True)
class Piece:
  """A stretch of a clip, encoded.

  Attributes:
    clip: The file that it is from.
    start: Its first second there.
    end: Its last.
    packets: (bytes, whether it is a key frame), one for each 1 / RATE seconds.
  """

  clip: str
  start: float
  end: float
  packets: list[tuple[bytes, bool]]

  @property
  def seconds(self) -> float:
    return len(self.packets) / RATE


@dataclasses.dataclass(frozen=True)
class Plant:
  """A piece in a long video.

  Attributes:
    piece: The piece.
    video: Name of the long video's file.
    start: Its first second there.
    end: Its last.
  """

  piece: Piece
  video: str
  start: float
  end: float


def pictures(clip: pathlib.Path) -> np.ndarray:
  """Returns the pictures of a clip at `RATE` per second, (n, h, w, 3) uint8."""
  found, taken = [], 0
  with av.open(str(clip)) as container:
    stream = container.streams.video[0]
    first = None
    for frame in container.decode(stream):
      time = float(frame.time or 0)
      first = time if first is None else first
      image = None
      while taken / RATE <= time - first:
        if image is None:
          small = frame.reformat(width=SIZE[1], height=SIZE[0], format='rgb24')
          image = small.to_ndarray()
        found.append(image)
        taken += 1
  return np.stack(found)


def encoded(images: np.ndarray) -> list[tuple[bytes, bool]]:
  """Returns the packets of pictures as MPEG-4 video without B-frames."""
  codec: Any = av.CodecContext.create('mpeg4', 'w')
  codec.width, codec.height, codec.pix_fmt = SIZE[1], SIZE[0], 'yuv420p'
  codec.time_base = fractions.Fraction(1, RATE)
  codec.bit_rate, codec.gop_size = 150_000, 4 * RATE
  packets = []
  for number, image in enumerate(images):
    frame = av.VideoFrame.from_ndarray(image, format='rgb24')
    frame.pts = number
    packets += codec.encode(frame)
  packets += codec.encode(None)
  return [(bytes(packet), packet.is_keyframe) for packet in packets]


def cut(clip: pathlib.Path, images: np.ndarray, most: int) -> list[Piece]:
  """Returns up to `most` pieces of a clip, one after the other."""
  found, step = [], int(_LONGEST * RATE)
  for start in range(0, len(images), step):
    few = images[start : start + step]
    if len(found) < most and len(few) >= _SHORTEST * RATE:
      place = start / RATE
      end = place + len(few) / RATE
      found.append(Piece(str(clip), place, end, encoded(few)))
  return found


def fillers(images: np.ndarray, clip: pathlib.Path) -> list[Piece]:
  """Returns a clip in other guises: turned, in other colours, brighter."""
  few = images[: int(_LONGEST * RATE)]
  guises = (
    few[:, ::-1, ::-1, ::-1],
    few[:, ::-1, :, (1, 2, 0)],
    (few[..., (2, 0, 1)] // 2 + 90).astype(np.uint8),
    few[::-1, :, ::-1, (1, 0, 2)],
  )
  return [
    Piece(str(clip), 0.0, len(few) / RATE, encoded(guise)) for guise in guises
  ]


def write(path: pathlib.Path, pieces: Sequence[Piece]) -> None:
  """Writes pieces one after the other into a file."""
  with av.open(str(path), 'w') as container:
    stream: Any = container.add_stream('mpeg4', rate=RATE)
    stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], 'yuv420p'
    number = 0
    for piece in pieces:
      for content, is_key in piece.packets:
        packet = av.Packet(content)
        packet.stream = stream
        packet.time_base = fractions.Fraction(1, RATE)
        packet.pts = packet.dts = number
        packet.is_keyframe = is_key
        container.mux(packet)
        number += 1


def plant(
  folder: pathlib.Path,
  clips: Sequence[pathlib.Path],
  *,
  plants: int,
  videos: int,
  seconds: float,
  seed: int = 0,
) -> tuple[list[Plant], list[Piece]]:
  """Writes long videos, each with some planted pieces.

  A piece is planted once. The rest of a video is other clips in other guises.

  Args:
    folder: Where the videos go.
    clips: Files of short clips.
    plants: Number of pieces.
    videos: Number of long videos.
    seconds: Length of each.
    seed: Decides times and fillers.

  Returns:
    The plants; all pieces that were written.
  """
  rng = np.random.default_rng(seed)
  shown = {clip: pictures(clip) for clip in clips}
  lists = [cut(clip, images, 4) for clip, images in shown.items()]
  # First pieces of all clips, then second ones, and so on.
  ordered = [few[i] for i in range(4) for few in lists if i < len(few)]
  chosen = ordered[:plants]
  others = [
    piece for c, images in shown.items() for piece in fillers(images, c)
  ]
  done: list[Plant] = []
  for number in range(videos):
    own = chosen[number::videos]
    mine = {piece.clip for piece in own}
    allowed = [piece for piece in others if piece.clip not in mine]
    gaps = np.sort(rng.uniform(0, seconds, len(own)))
    name, row, now = f'long_{number}.mkv', [], 0.0
    for piece, gap in [*zip(own, gaps, strict=True), (None, seconds)]:
      while now < gap:
        row.append(allowed[rng.integers(len(allowed))])
        now += row[-1].seconds
      if piece is not None:
        done.append(Plant(piece, name, now, now + piece.seconds))
        row.append(piece)
        now += piece.seconds
    write(folder / name, row)
  return done, [*chosen, *others]
