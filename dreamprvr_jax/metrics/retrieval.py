"""Retrieval metrics from ranks.

Source: docs/method.md, "Ranks and recall".
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

CUTOFFS = (1, 5, 10, 100)
# The metrics that `recall` returns.
RECALLS = (*(f'R@{k}' for k in CUTOFFS), 'SumR')
# Bins of the moment-to-video length ratio in the papers.
RATIO_BINS = ((0.0, 0.2), (0.2, 0.4), (0.4, 1.0))


def recall(ranks: Int[np.ndarray, ' n']) -> dict[str, float]:
  """Returns R@1, R@5, R@10, R@100 in percent and their unrounded sum SumR.

  Args:
    ranks: 1-based rank of the right item of each query, at least one query.
  """
  values = {f'R@{k}': float(100 * np.mean(ranks <= k)) for k in CUTOFFS}
  return {**values, 'SumR': float(sum(values.values()))}


def summary(ranks: Int[np.ndarray, ' n']) -> dict[str, float]:
  """Returns `recall` with MedR, MeanR and mAP (mean of 100 / rank).

  All values are NaN without queries.
  """
  if not len(ranks):
    return dict.fromkeys((*RECALLS, 'MedR', 'MeanR', 'mAP'), float('nan'))
  return {
    **recall(ranks),
    'MedR': float(np.median(ranks)),
    'MeanR': float(np.mean(ranks)),
    'mAP': float(100 * np.mean(1 / ranks)),
  }


def by_moment_ratio(
  ranks: Int[np.ndarray, ' n'], ratios: Float[np.ndarray, ' n']
) -> dict[str, dict[str, float]]:
  """Returns `summary` by moment-to-video length ratio.

  Args:
    ranks: 1-based ranks.
    ratios: Length of the moment over that of the video; NaN where unknown.

  Returns:
    One entry per bin (low, high], with its number of queries; empty if no
    ratio is known.
  """
  if not np.isfinite(ratios).any():
    return {}
  out = {}
  for low, high in RATIO_BINS:
    # A moment may exceed the stated duration: it is in the last bin.
    last = high == RATIO_BINS[-1][1]
    inside = (ratios > low) & ((ratios <= high) | last)
    values = summary(ranks[inside]) if inside.any() else {}
    out[f'({low:g}, {high:g}]'] = {'queries': int(inside.sum()), **values}
  return out


def chance(num_videos: int) -> dict[str, float]:
  """Returns the recall of a random order of `num_videos` videos."""
  values = {f'R@{k}': 100.0 * min(k, num_videos) / num_videos for k in CUTOFFS}
  return {**values, 'SumR': sum(values.values())}


def format_table(
  rows: Mapping[str, Mapping[str, float]], columns: tuple[str, ...] = ()
) -> str:
  """Returns an aligned text table of metrics, one row per entry.

  Args:
    rows: {label: metrics}; missing metrics are shown as '-'.
    columns: Names of the metrics; the recalls if empty.
  """
  columns = columns or RECALLS
  label_width = max(len(label) for label in rows)
  lines = [
    ' ' * label_width + ''.join(f'{name:>8}' for name in columns),
  ]
  for label, metrics in rows.items():
    cells = ''.join(
      f'{metrics[name]:8.1f}' if name in metrics else f'{"-":>8}'
      for name in columns
    )
    lines.append(label.ljust(label_width) + cells)
  return '\n'.join(lines)
