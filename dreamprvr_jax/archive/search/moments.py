"""When a video matches a query: the timeline, and moments on it.

A moment is a peak and its extent:
1. The first peak is the greatest value; of equal ones, the earliest.
2. Its extent grows from the peak to both sides while values are not below a
   level: half way between the median of the whole timeline and the peak.
3. For further moments, the positions of earlier extents are left out. The next
   peak is the greatest remaining value that is above the median and not below
   its neighbours on the whole timeline, so that the slope of an earlier hill
   does not count as a new one. Its extent grows as in step 2, over the
   remaining positions.
A moment's score is the video's score, less the difference between the first
peak and its own.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

# Share of the way from the median to the peak.
LEVEL = 0.5


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
  timeline: Float[np.ndarray, ' g'], count: int = 3
) -> list[Extent]:
  """Returns up to `count` moments, at least one, by falling height."""
  median = float(np.median(timeline))
  padded = np.pad(timeline, 1, constant_values=-np.inf)
  is_hill = (timeline >= padded[:-2]) & (timeline >= padded[2:])
  left = np.ones(len(timeline), bool)
  found: list[Extent] = []
  while len(found) < count:
    peak = int(np.argmax(np.where(left & is_hill, timeline, -np.inf)))
    height = float(timeline[peak])
    if found and not (left[peak] and is_hill[peak] and height > median):
      break
    level = median + LEVEL * (height - median)
    outside = np.flatnonzero(~left | (timeline < level))
    before, behind = outside[outside < peak], outside[outside > peak]
    start = int(before[-1]) + 1 if len(before) else 0
    stop = int(behind[0]) if len(behind) else len(timeline)
    left[start:stop] = False
    found.append(Extent(start, stop, peak, height))
  return found


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
  extents = find_extents(timeline, count)
  size = len(timeline)
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
