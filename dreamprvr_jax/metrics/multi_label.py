"""Retrieval metrics where a query may have several right videos.

Coverage recall is the share of a query's right videos among the first k; a hit
is at least one of them. With one right video per query both are the recall,
and all values are those of `retrieval.summary`. Source: docs/method.md,
"Several right videos".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.metrics.retrieval import CUTOFFS


def ranks_of(
  scores: Float[np.ndarray, 'q v'], right: Sequence[Int[np.ndarray, ' g']]
) -> list[Int[np.ndarray, ' g']]:
  """Returns the 1-based ranks of each query's right videos, rising.

  A rank is 1 + #{greater} + #{equal with a lower index}. A score that is NaN
  counts as ahead of every right video, and everything is ahead of it, as in
  `ranks.count_ahead`.

  Args:
    scores: Higher is better.
    right: Columns of each query's right videos, at least one, all different.
  """
  columns = np.arange(scores.shape[1])
  found = []
  for row, mine in zip(scores, right, strict=True):
    own = row[mine][:, None]
    behind = np.where(columns < mine[:, None], row < own, row <= own)
    found.append(np.sort(1 + np.sum(~behind, axis=1)))
  return found


def summary(
  ranks: Sequence[Int[np.ndarray, ' g']], cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, Any]:
  """Returns the metrics over queries, at least one; recall in percent.

  Args:
    ranks: As `ranks_of` returns them.
    cutoffs: The k of R@k.

  Returns:
    The numbers of `queries` and `positives`; R@k by `coverage` and `hit` (each
    with its sum SumR) and `ceiling` (the best possible coverage); MedR and
    MeanR of the best right video; mAP, the mean over queries of the average
    precision in percent.
  """
  counts = np.asarray([len(mine) for mine in ranks])
  best = np.asarray([mine[0] for mine in ranks])
  precision = [np.mean(np.arange(1, len(mine) + 1) / mine) for mine in ranks]
  coverage, hit, ceiling = {}, {}, {}
  for k in cutoffs:
    name = f'R@{k}'
    inside = np.asarray([np.sum(mine <= k) for mine in ranks])
    coverage[name] = float(100 * np.mean(inside / counts))
    hit[name] = float(100 * np.mean(best <= k))
    ceiling[name] = float(100 * np.mean(np.minimum(k, counts) / counts))
  return {
    'queries': len(ranks),
    'positives': int(counts.sum()),
    'coverage': {**coverage, 'SumR': sum(coverage.values())},
    'hit': {**hit, 'SumR': sum(hit.values())},
    'ceiling': ceiling,
    'MedR': float(np.median(best)),
    'MeanR': float(np.mean(best)),
    'mAP': float(100 * np.mean(precision)),
  }
