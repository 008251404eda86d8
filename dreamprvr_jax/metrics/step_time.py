"""The time of a training step, from the rows of a metric log."""

import itertools
import statistics
from collections.abc import Iterable, Mapping
from typing import Any


def median_step(rows: Iterable[Mapping[str, Any]]) -> float | None:
  """Returns the median seconds of a step; None if too little is logged.

  A row's `seconds_per_step` is the mean since its epoch began, or since the
  run was continued. Only steps between two rows of an epoch count, which
  leaves out those that compile. With one row per epoch, the epochs after the
  first count.

  Args:
    rows: Rows of kind 'train' and 'eval' in the order of writing.
  """
  rows = list(rows)
  ends = [row['step'] / row['epoch'] for row in rows if row['kind'] == 'eval']
  train = [row for row in rows if row['kind'] == 'train']
  if not ends:
    return None
  found = []
  for before, row in itertools.pairwise(train):
    began = (row['epoch'] - 1) * ends[0]
    steps = row['step'] - before['step']
    if before['epoch'] == row['epoch'] and steps > 0:
      spent = [
        (r['step'] - began) * r['seconds_per_step'] for r in (before, row)
      ]
      found.append((spent[1] - spent[0]) / steps)
  # In a continued epoch the clock started later than the epoch.
  found = [seconds for seconds in found if seconds > 0]
  found = found or [r['seconds_per_step'] for r in train if r['epoch'] > 1]
  return statistics.median(found) if found else None
