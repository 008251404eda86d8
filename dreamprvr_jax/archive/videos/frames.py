"""Sampling a video file: its pictures at a fixed rate, and its duration."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.videos.files import (
  VideoError,
  av_version,
  opened,
)
from dreamprvr_jax.archive.videos.pixels import Pixels, Resize
from dreamprvr_jax.archive.videos.presentation import Presentation, Shown


@dataclasses.dataclass(frozen=True)
class Limits:
  """How long a file may be; a small one can claim to last for weeks.

  Attributes:
    seconds: Seconds of presentation time.
    samples: Pictures that are encoded.
  """

  seconds: float = 43_200.0
  samples: int = 100_000

  def conditions(self) -> dict[str, Any]:
    """Returns what decides whether an unchanged file can be read, in values for
    JSON: these limits, and the version of PyAV."""
    return {**dataclasses.asdict(self), 'pyav': av_version()}


LIMITS = Limits()


@dataclasses.dataclass(frozen=True)
class Sample:
  """A picture of a video.

  Attributes:
    image: (h, w, 3) uint8, RGB, upright.
    time: Seconds at which it is shown, on the clock of `Presentation`.
  """

  image: np.ndarray
  time: float


class Video:
  """One pass over the pictures of a file, in constant memory.

  The file is cut into stretches of 1 / fps seconds. The sample of a stretch is
  the picture that is shown in its middle, or the first picture if none is shown
  yet. A file that is shorter than half a stretch gives its last picture.
  """

  def __init__(
    self,
    path: str,
    fps: float,
    resize: Resize,
    *,
    threads: int = 0,
    limits: Limits = LIMITS,
  ):
    """Opens nothing yet.

    Args:
      path: The file.
      fps: Samples per second of presentation time.
      resize: Returns the size of a sample for that of the upright picture with
        square pixels.
      threads: Threads of the decoder; 0 lets it choose.
      limits: How long the file may be.
    """
    if not fps > 0:
      raise DataError(f'fps={fps} must be above 0; 2 is usual')
    self.path = str(path)
    self.fps = fps
    # Seconds from the start to the end of the last picture; NaN until all
    # samples were taken.
    self.duration = float('nan')
    self._resize = resize
    self._threads = threads
    self._limits = limits
    self._shape: tuple[int, int] | None = None

  def samples(self) -> Iterator[Sample]:
    """Yields the samples in order.

    Raises:
      UserError: If PyAV is not installed.
      VideoError: If the file is empty, broken, truncated, has no pictures, or
        gives more than the limits allow.
    """
    self._shape = None
    with opened(self.path, threads=self._threads) as (container, stream):
      film = Presentation(self.path, container, stream)
      # Refuse it before decoding for hours.
      self._check(film.at_least, film.stated)
      yield from self._sampled(film, Pixels(stream))

  def _sampled(self, film: Presentation, pixels: Pixels) -> Iterator[Sample]:
    held: Shown | None = None
    image: np.ndarray | None = None
    taken, end = 0, 0.0
    for shown in film.pictures():
      self._check(shown.until, shown.until)
      # Before the first picture, that one counts as shown.
      seen = held or shown
      while (middle := (taken + 0.5) / self.fps) < shown.time:
        image = self._image(seen, pixels) if image is None else image
        yield Sample(image, middle)
        taken += 1
      held, image, end = shown, None if held else image, shown.until
    assert held is not None  # Otherwise `pictures` raises.
    image = self._image(held, pixels) if image is None else image
    while (middle := (taken + 0.5) / self.fps) < end:
      yield Sample(image, middle)
      taken += 1
    if not taken:
      yield Sample(image, end / 2)
    self.duration = end

  def _check(self, least: float, seconds: float) -> None:
    """Raises VideoError if a file exceeds the limits.

    Args:
      least: Seconds that the file lasts at least.
      seconds: Seconds to name in the error.
    """
    if least > self._limits.seconds:
      raise VideoError(
        self.path,
        f'lasts {seconds:,.0f} s, more than --max_seconds='
        f'{self._limits.seconds:.12g}; cut it into parts, or raise the limit',
      )
    if math.ceil(least * self.fps - 0.5) > self._limits.samples:
      raise VideoError(
        self.path,
        f'lasts {seconds:,.0f} s, which gives more samples than --max_samples='
        f'{self._limits.samples}; cut it into parts, lower --fps, or raise the '
        'limit',
      )

  def _image(self, shown: Shown, pixels: Pixels) -> np.ndarray:
    """Returns the upright picture in the size for the encoder."""
    if self._shape is None:
      # All samples have one size, even if the size changes in the file.
      self._shape = self._resize(*pixels.shape(shown.frame))
    return pixels.upright(shown.frame, *self._shape)
