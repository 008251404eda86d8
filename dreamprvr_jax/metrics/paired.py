"""The difference of two retrievers on the same queries, and its errors.

All recalls are means over queries, so each query has a share of the difference,
and the shares give its standard error. Queries of one video are not
independent: whole videos are counted as drawn.
"""

from collections.abc import Sequence

import numpy as np
import scipy.special
from jaxtyping import Float, Int

from dreamprvr_jax.metrics import seeds
from dreamprvr_jax.metrics.retrieval import CUTOFFS, RECALLS

_CONFIDENCE = 0.95


def shares(ranks: Int[np.ndarray, ' n']) -> Float[np.ndarray, 'n 5']:
  """Returns what each query adds to R@1, R@5, R@10, R@100 and SumR, in percent;
  the mean over queries is the metric.

  Args:
    ranks: 1-based rank of the right item of each query.
  """
  found = 100.0 * (ranks[:, None] <= np.asarray(CUTOFFS))
  return np.concatenate([found, found.sum(axis=1, keepdims=True)], axis=1)


def difference(
  ours: Sequence[Int[np.ndarray, ' n']],
  theirs: Sequence[Int[np.ndarray, ' n']],
  videos: Int[np.ndarray, ' n'],
  *,
  seedless: tuple[bool, bool] = (False, False),
) -> dict[str, dict[str, float | None]]:
  """Returns, for each recall, both means, their difference and its errors.

  'over_queries' is the standard error for another draw of videos with their
  queries, given these runs; None for a single video. 'over_runs' is that of
  `seeds.difference` for other seeds, given these queries; None if a side that
  depends on seeds has one run. 'half_width' is half of the 95 % interval of the
  difference, from both errors, or from the first alone if the second is None;
  None without the first.

  Args:
    ours: Ranks by our runs, see `shares`; at least one query.
    theirs: Ranks by the others.
    videos: The video of each query.
    seedless: Whether each side depends on no seed.
  """
  by_run = [
    np.stack([shares(ranks) for ranks in side]) for side in (ours, theirs)
  ]
  each = by_run[0].mean(axis=0) - by_run[1].mean(axis=0)
  over_queries = _clustered_error(each, videos)
  count = len(np.unique(videos))
  found = {}
  for column, name in enumerate(RECALLS):
    values = [side[:, :, column].mean(axis=1).tolist() for side in by_run]
    change, over_runs = seeds.difference(*values, seedless=seedless)
    parts = []
    if over_queries:
      parts.append((over_queries[column] ** 2, count - 1))
    if over_queries and over_runs is not None:
      parts += [
        (float(np.var(side, ddof=1)) / len(side), len(side) - 1)
        for side, is_fixed in zip(values, seedless, strict=True)
        if not is_fixed
      ]
    found[name] = {
      'ours': float(np.mean(values[0])),
      'theirs': float(np.mean(values[1])),
      'difference': change,
      'over_queries': over_queries[column] if over_queries else None,
      'over_runs': over_runs,
      'half_width': _half_width(parts) if parts else None,
    }
  return found


def _half_width(parts: Sequence[tuple[float, int]]) -> float:
  """Returns half of the interval of a sum.

  Student's t with the degrees of freedom of Welch and Satterthwaite: a variance
  that few runs give is itself uncertain.

  Args:
    parts: The variance of each term, and its degrees of freedom.
  """
  variance = sum(part for part, _ in parts)
  if not variance > 0:
    return 0.0
  freedom = variance**2 / sum(part**2 / free for part, free in parts)
  quantile = scipy.special.stdtrit(freedom, (1 + _CONFIDENCE) / 2)
  return float(quantile * np.sqrt(variance))


def _clustered_error(
  each: Float[np.ndarray, 'n k'], videos: Int[np.ndarray, ' n']
) -> list[float] | None:
  """Returns the standard error of the mean over queries, for videos that are
  drawn whole; None if there is only one."""
  _, video = np.unique(videos, return_inverse=True)
  count = int(video.max()) + 1
  if count < 2:
    return None
  sums = np.zeros((count, each.shape[1]))
  np.add.at(sums, video, each - each.mean(axis=0))
  variance = count / (count - 1) * np.sum(sums**2, axis=0) / len(each) ** 2
  return np.sqrt(variance).tolist()
