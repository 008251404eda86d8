"""Pictures as a player shows them: upright, with square pixels."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8

# Takes (height, width) of a picture as shown; returns those of the sample.
Resize = Callable[[int, int], tuple[int, int]]

# A stated ratio beyond this is ignored: pixels count as square.
_STRETCH = 10


class Pixels:
  """The orientation of a file's pictures, and the shape of their pixels."""

  def __init__(self, stream: Any):
    """Args:
    stream: PyAV's stream of the pictures.
    """
    ratio = float(stream.sample_aspect_ratio or 1)
    # Width of a pixel over its height.
    self._ratio = ratio if 1 / _STRETCH <= ratio <= _STRETCH else 1.0

  def shape(self, frame: Any) -> tuple[int, int]:
    """Returns (height, width) of a decoded picture as shown."""
    shape = frame.height, max(round(frame.width * self._ratio), 1)
    return shape[::-1] if _turns(frame)[0] else shape

  def upright(
    self, frame: Any, height: int, width: int
  ) -> UInt8[np.ndarray, 'h w 3']:
    """Returns a decoded picture upright, in RGB, scaled to a size."""
    lies, mirrored, flipped = _turns(frame)
    small = frame.reformat(
      width=height if lies else width,
      height=width if lies else height,
      format='rgb24',
      interpolation='BICUBIC',
    )
    image = small.to_ndarray()
    image = image.transpose(1, 0, 2) if lies else image
    image = image[:, ::-1] if mirrored else image
    image = image[::-1] if flipped else image
    return np.ascontiguousarray(image)


def _turns(frame: Any) -> tuple[bool, bool, bool]:
  """Returns whether rows become columns, whether left and right change places
  then, and whether top and bottom do.

  A display matrix ((a, b, u), (c, d, v), (x, y, w)) shows the pixel (p, q) at
  (a p + c q + x, b p + d q + y), where q counts downwards.
  """
  matrix = frame.side_data.get('DISPLAYMATRIX')
  if matrix is None:
    return False, False, False
  a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
  lies = abs(b) + abs(c) > abs(a) + abs(d)
  return (True, c < 0, b < 0) if lies else (False, a < 0, d < 0)
