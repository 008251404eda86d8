"""Mean and spread over seeds, and the difference of two methods."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def spread(values: Sequence[float]) -> dict[str, Any]:
  """Returns {'mean', 'std', 'values'}; `std` is the sample standard deviation,
  None for a single value."""
  std = float(np.std(values, ddof=1)) if len(values) > 1 else None
  return {'mean': float(np.mean(values)), 'std': std, 'values': [*values]}


def difference(
  ours: Sequence[float],
  theirs: Sequence[float],
  *,
  seedless: tuple[bool, bool] = (False, False),
) -> tuple[float, float | None]:
  """Returns the difference of the means and its standard error.

  Runs count as independent: the same seed draws other numbers in another
  model. A seedless side has no error. The error is None if another side has a
  single value.
  """
  change = float(np.mean(ours) - np.mean(theirs))
  sides = (ours, theirs)
  drawn = [
    side for side, is_fixed in zip(sides, seedless, strict=True) if not is_fixed
  ]
  if any(len(side) < 2 for side in drawn):
    return change, None
  variance = sum(np.var(side, ddof=1) / len(side) for side in drawn)
  return change, float(np.sqrt(variance))
