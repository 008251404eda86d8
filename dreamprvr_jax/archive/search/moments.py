"""When a video matches a query: the timeline, and moments on it.

A moment is a peak and its extent:
1. The first peak is the greatest value; of equal ones, the earliest.
2. Its extent is the stretch around the peak with the greatest sum of the values
   less a level, `LEVEL` of the way from the median of the whole timeline to the
   peak. So a short dip between two hills does not end it, and a long one does.
   An extent of less than `SHORTEST` seconds grows on the side of the greater
   value.
3. For further moments, the positions of earlier extents are left out. The next
   peak is the greatest remaining value that is above the median, not below its
   neighbours on the whole timeline, and farther from each earlier extent than
   `APART` times that extent's length, so that the slope of an earlier hill does
   not count as a new one. Its extent follows from step 2, over the remaining
   positions.
A moment's score is the video's score, less the difference between the first
peak and its own.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

# Share of the way from the median to the peak. `benchmarks/moments.py` compares
# it with others, and docs/search.md has its table.
LEVEL = 0.45
# Seconds of a moment, at least, where the duration is known.
SHORTEST = 2.0
# Least distance of a further peak from a moment, in lengths of that moment.
APART = 0.25


@dataclasses.dataclass(frozen=True)
class Extent:
  """A moment in positions of the timeline.

  Attributes:
    start: First position.
    stop: The position after the last.
    peak: Position of the peak.
    height: The peak's value.
  """

  start: int
  stop: int
  peak: int
  height: float


@dataclasses.dataclass(frozen=True)
class Moment:
  """A moment of a video.

  Attributes:
    start: Its start in seconds, NaN if the video's duration is unknown.
    end: Its end in seconds.
    peak: The middle of the stretch that matches best, in seconds.
    span: Its start and end as fractions of the video.
    score: The video's score, less the difference between the video's first
      peak and this one.
  """

  start: float
  end: float
  peak: float
  span: tuple[float, float]
  score: float


def find_extents(
  timeline: Float[np.ndarray, ' g'], count: int = 3, least: int = 1
) -> list[Extent]:
  """Returns up to `count` moments, at least one, by falling height.

  Args:
    timeline: Timeline of a query in a video.
    count: Moments, at most.
    least: Positions of a moment, at least, if that many are left around it.
  """
  median = float(np.median(timeline))
  padded = np.pad(timeline, 1, constant_values=-np.inf)
  is_hill = (timeline >= padded[:-2]) & (timeline >= padded[2:])
  left, may_peak = np.ones(len(timeline), bool), is_hill
  found: list[Extent] = []
  while len(found) < count:
    peak = int(np.argmax(np.where(may_peak, timeline, -np.inf)))
    height = float(timeline[peak])
    if found and not (may_peak[peak] and height > median):
      break
    outside = np.flatnonzero(~left)
    before, behind = outside[outside < peak], outside[outside > peak]
    low = int(before[-1]) + 1 if len(before) else 0
    high = int(behind[0]) if len(behind) else len(timeline)
    gains = np.asarray(timeline, np.float64) - (
      median + LEVEL * (height - median)
    )
    start = peak + 1 - _best_count(gains[low : peak + 1][::-1])
    stop = peak + _best_count(gains[peak:high])
    while stop - start < min(least, high - low):
      earlier = padded[start] if start > low else -np.inf
      if stop == high or earlier >= timeline[stop]:
        start -= 1
      else:
        stop += 1
    left[start:stop] = False
    apart = math.ceil(APART * (stop - start))
    may_peak = may_peak.copy()
    may_peak[max(start - apart, 0) : stop + apart] = False
    found.append(Extent(start, stop, peak, height))
  return found


def _best_count(gains: Float[np.ndarray, ' n']) -> int:
  """Returns how many of the first values have the greatest sum, at least one;
  of equal sums, the most values."""
  sums = np.cumsum(gains)
  return len(sums) - int(np.argmax(sums[::-1]))


def find_moments(
  timeline: Float[np.ndarray, ' g'],
  duration: float,
  score: float,
  count: int = 3,
) -> list[Moment]:
  """Returns up to `count` moments of a video, by falling score.

  Args:
    timeline: Timeline of the query in the video.
    duration: Seconds of the video, NaN if unknown.
    score: Score of the video.
    count: Moments, at most.
  """
  size = len(timeline)
  least = math.ceil(SHORTEST / duration * size) if duration > 0 else 1
  extents = find_extents(timeline, count, min(least, size))
  return [
    Moment(
      start=extent.start / size * duration,
      end=extent.stop / size * duration,
      peak=(extent.peak + 0.5) / size * duration,
      span=(extent.start / size, extent.stop / size),
      score=score - (extents[0].height - extent.height),
    )
    for extent in extents
  ]
