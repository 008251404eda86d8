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
  found: list[np.ndarray] = []
  while len(found) < len(times):
    seconds, before = times[len(found)], len(found)
    with opened(path) as (container, stream):
      pixels = Pixels(stream)
      film = Presentation(path, container, stream)
      for picture in _run(film, times[before:]):
        frame = picture.frame
        found.append(pixels.upright(frame, *size(*pixels.shape(frame))))
    if len(found) == before:
      # The index of the file leads too far.
      found.append(picture_at(path, seconds, size))
    if clocks.monotonic() > late:
      raise VideoError(
        path,
        f'takes more than {_PATIENCE:.0f} s to decode: its key frames are too '
        'far apart; encode it again',
      )
  return found


def _run(film: Presentation, times: Sequence[float]) -> Iterator[Shown]:
  """Yields the pictures at the first of some times, until a long gap follows,
  or the file has none there.

  Args:
    film: A file that was just opened.
    times: Seconds, rising.
  """
  pictures, held = film.near(times[0]), None
  ahead = next(pictures, None)
  for seconds in times:
    if held and ahead and seconds - held.time > _GAP:
      return
    while ahead and ahead.time <= seconds + _ROUNDED:
      held, ahead = ahead, next(pictures, None)
    if held is None:
      return
    yield held
