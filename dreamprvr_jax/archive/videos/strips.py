"""Pictures of a video at several times, with little decoding."""

import time as clocks
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8

from dreamprvr_jax.archive.videos.files import VideoError, opened
from dreamprvr_jax.archive.videos.pixels import Pixels, Resize
from dreamprvr_jax.archive.videos.presentation import (
  Presentation,
  Shown,
  picture_at,
)

# Up to so many seconds are decoded; across a longer gap the file is sought.
_GAP = 5.0
# A picture counts as shown at its own time even if that was rounded.
_ROUNDED = 1e-3
# Seconds that finding all pictures may take.
_PATIENCE = 60.0


def pictures_at(
  path: str, times: Sequence[float], size: Resize
) -> list[UInt8[np.ndarray, 'h w 3']]:
  """Returns the pictures that are shown at some times, RGB, upright.

  Args:
    path: The file.
    times: Seconds from the start, rising.
    size: Returns the size of a result for (height, width) of the picture as
      shown.

  Raises:
    UserError: If PyAV is not installed.
    VideoError: If the file has no picture, or finding them takes too long.
  """
  late = clocks.monotonic() + _PATIENCE
  found = []
  with opened(path) as (container, stream):
    pixels = Pixels(stream)
    film = _Film(Presentation(path, container, stream))
    for seconds in times:
      picture = film.until(seconds)
      if picture is None:
        # The index of the file leads too far.
        found.append(picture_at(path, seconds, size))
      else:
        frame = picture.frame
        found.append(pixels.upright(frame, *size(*pixels.shape(frame))))
      if clocks.monotonic() > late:
        raise VideoError(
          path,
          f'takes more than {_PATIENCE:.0f} s to decode: its key frames are '
          'too far apart; encode it again',
        )
  return found


class _Film:
  """Reads the pictures of a file forward, and seeks across long gaps."""

  def __init__(self, film: Presentation):
    self._film = film
    self._pictures: Iterator[Shown] = iter(())
    self._held: Shown | None = None
    self._ahead: Shown | None = None

  def until(self, seconds: float) -> Shown | None:
    """Returns the last picture up to a time; None if there is none."""
    if self._held is None or seconds - self._held.time > _GAP:
      self._pictures = self._film.near(seconds)
      self._held, self._ahead = None, next(self._pictures, None)
    while self._ahead and self._ahead.time <= seconds + _ROUNDED:
      self._held, self._ahead = self._ahead, next(self._pictures, None)
    return self._held
