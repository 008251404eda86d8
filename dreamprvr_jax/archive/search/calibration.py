"""How well the hits of a query fit, on a scale that holds for all queries.

Scores of different queries cannot be compared: a picture scores higher than a
sentence with every video, a word differs from a sentence, and each encoder has
its own range. So a query's best score is compared with what the same query
scores on a fixed random sample of the index. Scores of rows follow a Gumbel
distribution well enough (a row's score is a maximum itself), and so does the
best of all N rows: with the sample's mean m and standard deviation s,

  b = s sqrt(6) / pi,   a = m - 0.5772 b,   y = (score - a) / b - log N

exceeds t with the probability 1 - exp(-exp(-t)) if no row fits the query.
A hit is strong if a query that nothing fits would reach its score in 1 of 20
cases, weak if it would in 1 of 3, and otherwise as good as none. The best 2 %
of the sample, at least one, are left out, since they may be right answers; so
are as many as the first hit has copies.

`benchmarks/cutoff.py` compares this with a flat threshold and with other
statistics. If almost all videos fit a query, none stands out, and all of them
count as weak or none.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

# Rows of the sample, at most; of fewer than the least nothing can be said.
ROWS, LEAST = 256, 12
# Share of queries that nothing fits and that reach a strength all the same.
FALSE_ALARMS = {'weak': 1 / 3, 'strong': 1 / 20}
STRENGTHS = ('none', *FALSE_ALARMS)
# Share of the sample that is left out at its top.
_TOP = 0.02
_EULER = 0.5772156649


class Calibration:
  """Tells the strength of hits."""

  def __init__(
    self, scores: Callable[[np.ndarray], Float[np.ndarray, 'n m']], size: int
  ):
    """Args:
    scores: Returns the scores of encoded queries with the rows of the sample.
    size: Rows of the sample.
    """
    self._scores, self._size = scores, size

  def levels(
    self,
    queries: Float[np.ndarray, 'n q'],
    rows: int,
    copies: Sequence[int] | None = None,
  ) -> Float[np.ndarray, 'n 2'] | None:
    """Returns the scores from which on hits of each query are weak, and strong;
    None if the index is too small to tell.

    Args:
      queries: Encoded queries.
      rows: Rows that were searched.
      copies: Copies of the first hit of each query; none if None.
    """
    if self._size < LEAST:
      return None
    return levels_of(np.asarray(self._scores(queries)), rows, copies)


def levels_of(
  sample: Float[np.ndarray, 'n m'],
  rows: int,
  copies: Sequence[int] | None = None,
) -> Float[np.ndarray, 'n 2']:
  """Returns the scores from which on hits of each query are weak, and strong.

  Args:
    sample: Scores of each query with a sample of rows.
    rows: Rows that were searched, at least 1.
    copies: See `Calibration.levels`.
  """
  size = sample.shape[1]
  top = max(round(_TOP * size), 1) + np.asarray(
    np.zeros(len(sample)) if copies is None else copies, np.int64
  )
  # In a small sample of copies, the lower half stays.
  kept = np.arange(size) < np.maximum(size - top, size // 2)[:, None]
  values = np.sort(np.asarray(sample, np.float64), axis=1)
  spread = values.std(axis=1, where=kept) * np.sqrt(6) / np.pi
  place = values.mean(axis=1, where=kept) - _EULER * spread
  alarms = np.array(list(FALSE_ALARMS.values()))
  heights = np.log(rows) - np.log(-np.log1p(-alarms))
  return place[:, None] + spread[:, None] * heights


def strength_of(score: float, levels: Float[np.ndarray, ' 2']) -> str:
  """Returns how strong a hit of a query is, one of `STRENGTHS`."""
  return STRENGTHS[int((score >= levels).sum())]


def sample_of(rows: np.ndarray, seed: int = 0) -> np.ndarray:
  """Returns the rows of the sample, in rising order: always the same ones of
  an index."""
  if len(rows) <= ROWS:
    return np.sort(rows)
  return np.sort(np.random.default_rng(seed).choice(rows, ROWS, replace=False))
