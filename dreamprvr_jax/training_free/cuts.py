"""Cuts of a video where the direction of its features turns.

Source: docs/method.md, "TF-PRVR".
"""

import numpy as np

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.training_free.wavelets import responses

# A shorter vector has no direction.
_LEAST_NORM = 1e-12
# A step between two frames that is no longer is none.
_STILL = 1e-8


class FeaturesError(UserError):
  """Features that have no direction or are no numbers."""


def unit_rows(features: np.ndarray) -> np.ndarray:
  """Returns vectors at length 1, float64.

  Args:
    features: (n, d) of any float type, n and d at least 1.

  Raises:
    FeaturesError: If the shape is another, a number is not finite, or a row has
      a length below 1e-12.
  """
  rows = np.asarray(features, np.float64)
  if rows.ndim != 2 or 0 in rows.shape:
    raise FeaturesError(
      f'has the shape {rows.shape} where a matrix (vectors, width) with at '
      'least one vector was expected; extract its features again'
    )
  bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
  if bad.size:
    raise FeaturesError(
      f'has NaN or infinite values (row {bad[0]} of {len(rows)}); extract its '
      'features again'
    )
  norms = np.linalg.norm(rows, axis=1)
  short = np.flatnonzero(norms < _LEAST_NORM)
  if short.size:
    raise FeaturesError(
      f'has a vector of length 0 (row {short[0]} of {len(rows)}), which has no '
      'direction; extract its features again'
    )
  return rows / norms[:, None]


def turns(frames: np.ndarray) -> np.ndarray:
  """Returns how much the direction of the steps between frames turns.

  Args:
    frames: (t, d) unit vectors.

  Returns:
    (t - 2,) float64 from 0 (straight on) to 2 (back), none if t < 3. Position j
    is about the frames j, j + 1 and j + 2.
  """
  steps = np.diff(frames, axis=0)
  sizes = np.linalg.norm(steps, axis=1)
  directions = steps / (sizes + _STILL)[:, None]
  cosines = np.einsum('td,td->t', directions[:-1], directions[1:])
  moving = sizes > _STILL
  turned = 1 - np.clip(cosines, -1, 1)
  # A standing picture is no change.
  return np.where(moving[:-1] | moving[1:], turned, 0.0)


def peaks(values: np.ndarray) -> np.ndarray:
  """Returns the positions of local maxima, in rising order.

  A stretch of equal values that is higher than both neighbours counts once, in
  its middle (the earlier of two). The first and the last position are none.
  """
  starts = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
  ends = np.append(starts[1:], len(values)) - 1
  levels = values[starts]
  high = np.zeros(len(starts), bool)
  high[1:-1] = (levels[1:-1] > levels[:-2]) & (levels[1:-1] > levels[2:])
  return (starts[high] + ends[high]) // 2


def levels_of(frames: np.ndarray, wavelet: str) -> list[np.ndarray]:
  """Returns the edges of a video's pieces, level by level.

  Args:
    frames: (t, d) unit vectors.
    wavelet: See `wavelets.responses`.

  Returns:
    One array for each level, the finest first: rising frame numbers from 0 to
    t. There is at least one level; a level without a cut is one piece.

  Raises:
    UserError: If the wavelet is unknown.
  """
  signal = turns(frames)
  ends = np.array([0, len(frames)])
  floor = 64 * np.finfo(np.float64).eps * max(1, np.abs(signal).max(initial=0))
  found = []
  for row in responses(signal, wavelet):
    places = peaks(row)
    kept = places[row[places] > max(row.mean() + row.std(), floor)]
    # The piece before ends with the middle one of three frames.
    found.append(np.union1d(ends, kept + 2))
  return found or [ends]
