"""Search by the lists of an index: candidates, scored exactly."""

import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.first_pass import FirstPass
from dreamprvr_jax.archive.search.program import best_of
from dreamprvr_jax.archive.search.row_scores import Best, RowScores, slices

# Videos that the depth of lists is measured for.
MEASURED = 10
# How many times deeper the lists are searched again if they found too few.
_DEEPER = 4
# If conditions leave no more than so many times the rows that would be scored
# exactly, all of these are.
_FEW = 8
# All videos are scored rather than more than one of so many, unless there are
# few.
_SHARE, _LEAST = 8, 4096


class ListSearch:
  """Searches a store by its lists."""

  def __init__(self, scores: RowScores, store: Store, first: FirstPass):
    """Args:
    scores: Scores rows exactly.
    store: The index.
    first: Its lists.
    """
    self._exact, self._store, self.first = scores, store, first
    # First row, and number of rows, of each video.
    alive = np.flatnonzero(store.items >= 0)
    _, begins, counts = np.unique(
      store.groups[alive], return_index=True, return_counts=True
    )
    self._begins = alive[begins].astype(np.int32)
    self._counts = counts.astype(np.int32)

  def search(
    self,
    queries: Float[np.ndarray, 'n q'],
    k: int,
    allowed: Bool[np.ndarray, ' rows'],
  ) -> Best | None:
    """Returns the scores and rows (n, k) of the best videos, as
    `Searcher.search` does; None if the lists find fewer.

    Args:
      queries: Encoded queries.
      k: Videos to find; as many have an allowed row.
      allowed: Which rows may be found.
    """
    record, rows = self.first.record, np.flatnonzero(allowed)
    more = max(k, MEASURED) / MEASURED
    depth = math.ceil(record.depth * more)
    if len(rows) <= _FEW * depth:
      rows = np.broadcast_to(rows, (len(queries), len(rows)))
      found = [self._best(queries[c], rows[c], k) for c in slices(len(queries))]
      scores, places = zip(*filter(None, found), strict=True)
      return np.concatenate(scores), np.concatenate(places)
    videos = None
    if len(rows) < self._counts.sum():
      videos = np.zeros(self._store.videos, bool)
      videos[self._store.groups[rows]] = True
      more /= videos.mean()
    probes = math.ceil(record.probes * more)
    found = [
      self._deepening(queries[c], k, depth, probes, allowed, videos)
      for c in slices(len(queries))
    ]
    if any(best is None for best in found):
      return None
    scores, places = zip(*filter(None, found), strict=True)
    return np.concatenate(scores), np.concatenate(places)

  def _deepening(
    self,
    queries: Float[np.ndarray, 'n q'],
    k: int,
    depth: int,
    probes: int,
    allowed: Bool[np.ndarray, ' rows'],
    videos: Bool[np.ndarray, ' v'] | None,
  ) -> Best | None:
    """Searches deeper until there are k videos; None if the exact search is
    faster.

    Args:
      queries: Some encoded queries.
      k: Videos to find.
      depth: Candidates at first.
      probes: Lists that are looked into at first.
      allowed: Which rows may be found.
      videos: Which videos have such a row; None for all.
    """
    while depth <= max(self._store.videos // _SHARE, _LEAST):
      probes = min(probes, self.first.most_probes)
      found = self.first.candidates(queries, depth, probes, videos)
      best = self._best(queries, self._rows(found, allowed), k, allowed)
      if best is not None:
        return best
      depth, probes = _DEEPER * depth, _DEEPER * probes
    return None

  def _rows(
    self, videos: Int[np.ndarray, 'n m'], allowed: Bool[np.ndarray, ' rows']
  ) -> Int[np.ndarray, 'n r']:
    """Returns the allowed rows of some videos, filled up with -1."""
    found = []
    for some in videos:
      some = some[some >= 0]
      counts = self._counts[some]
      ends = np.cumsum(counts)
      rows = np.repeat(self._begins[some] - (ends - counts), counts)
      rows = rows + np.arange(len(rows), dtype=np.int32)
      found.append(rows[allowed[rows]])
    most = max(map(len, found))
    pad = lambda x: np.pad(x, (0, most - len(x)), constant_values=-1)
    return np.stack([pad(rows) for rows in found])

  def _best(
    self,
    queries: Float[np.ndarray, 'n q'],
    rows: Int[np.ndarray, 'n r'],
    k: int,
    late: Bool[np.ndarray, ' rows'] | None = None,
  ) -> Best | None:
    """Returns the best row of each of the best k videos; None if there are
    fewer.

    Args:
      queries: The queries.
      rows: Rows to score for each, -1 for none.
      k: Videos to find.
      late: Which rows of the videos that the lists do not name may be found,
        too; None for none.
    """
    scores = np.full(rows.shape, -np.inf, np.float32)
    if rows.shape[1]:
      scores = self._exact.exact(queries, rows)
    if late is not None and len(self.first.late):
      rows = np.concatenate(
        [rows, np.broadcast_to(self._late, (len(rows), len(self._late)))],
        axis=1,
      )
      more = np.where(late[self._late], self._score_late(queries), -np.inf)
      rows[:, -len(self._late) :][~np.isfinite(more)] = -1
      scores = np.concatenate([scores, more], axis=1)
    ranked = best_of(scores, rows, rows.shape[1])
    return best_videos(*ranked, self._store.groups, k)

  @functools.cached_property
  def _late(self) -> Int[np.ndarray, ' r']:
    """The rows of the videos that the lists do not name."""
    return np.flatnonzero(np.isin(self._store.groups, self.first.late)).astype(
      np.int32
    )

  @functools.cached_property
  def _score_late(self) -> Callable[[np.ndarray], np.ndarray]:
    return self._exact.scorer(self._late)


def best_videos(
  scores: Float[np.ndarray, 'n m'],
  rows: Int[np.ndarray, 'n m'],
  groups: Int[np.ndarray, ' rows'],
  k: int,
) -> Best | None:
  """Returns the best row of each of the best k videos; None if there are fewer
  among the rows, which are in falling order of their scores."""
  found = np.zeros((len(rows), k), np.int64)
  for i, here in enumerate(np.where(rows >= 0, groups[rows], -1)):
    _, first = np.unique(here, return_index=True)
    first = np.sort(first[here[first] >= 0])
    if len(first) < k:
      return None
    found[i] = first[:k]
  take = lambda x: np.take_along_axis(x, found, axis=1)
  return take(scores), take(rows)
