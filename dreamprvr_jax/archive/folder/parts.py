"""The rows of a video of any length: its parts, one after the other."""

import math
from collections.abc import Iterator

import numpy as np

from dreamprvr_jax.archive.extraction.stretches import Encoded, Stretch
from dreamprvr_jax.archive.index.encoding import rows_of
from dreamprvr_jax.trained.retriever import Retriever


def rows_of_video(
  retriever: Retriever, found: Encoded, seconds: float, overlap: float
) -> Iterator[dict[str, np.ndarray]]:
  """Yields the rows of each part of a video, with their `cores`.

  A part answers for the stretch from half way through its overlap with the
  former part to half way through that with the next one, so that every second
  of the video belongs to one part.

  Args:
    retriever: Makes the rows, see `rows_of`.
    found: The features of the video.
    seconds: Seconds of a part, at most.
    overlap: Seconds that neighbours have in common.

  Raises:
    UserError: If a feature is not finite or has no direction.
  """
  before, parts = -math.inf, found.stretches(seconds, overlap)
  here = next(parts, None)
  while here is not None:
    after = next(parts, None)
    until = math.inf if after is None else (here.end + after.start) / 2
    yield _rows(retriever, here, before, until)
    here, before = after, until


def _rows(
  retriever: Retriever, part: Stretch, start: float, end: float
) -> dict[str, np.ndarray]:
  """Returns the rows of a part that answers from a second to another."""
  rows = rows_of(
    retriever,
    part.features,
    times=part.times,
    start=part.start,
    duration=part.end - part.start,
  )
  return {**rows, 'cores': cores(rows['starts'], rows['durations'], start, end)}


def cores(
  starts: np.ndarray, durations: np.ndarray, start: float, end: float
) -> np.ndarray:
  """Returns the shares of rows that lie in a stretch, (r, 2) float32.

  Args:
    starts: (r,) seconds at which the rows begin.
    durations: (r,) their seconds; a row of unknown length lies in it.
    start: Where the stretch begins, in seconds of the file.
    end: Where it ends.
  """
  real = durations > 0
  length = np.where(real, durations, 1)
  low = np.clip((start - starts) / length, 0, 1)
  high = np.clip((end - starts) / length, 0, 1)
  found = np.stack([np.where(real, low, 0), np.where(real, high, 1)], axis=1)
  return found.astype(np.float32)
