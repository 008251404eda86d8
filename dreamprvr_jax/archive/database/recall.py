"""How many of the best videos a database finds, and how deep it searches.

It is measured with queries such as `search.list_settings.own_queries` makes:
what lies near a stored token is found by any first pass.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.archive.database.database import Database
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.searcher import Searcher

# Neighbours that are kept, tried in this order; 0: all vectors are compared,
# if there are no more than `COMPARED`.
DEPTHS = (200, 400, 800, 1600, 3200, 6400, 0)
COMPARED = 2_000_000
# The share of the best videos that a depth has to find, less its error.
TARGET = 0.99


@dataclasses.dataclass(frozen=True)
class Recall:
  """What a first pass finds.

  Attributes:
    value: Share of the best k videos of the exact search.
    k: Videos of a query.
    queries: How many queries.
    error: Standard error of the share.
  """

  value: float
  k: int
  queries: int
  error: float


class Exact:
  """The exact best videos of some queries, which a database is held against."""

  def __init__(
    self,
    searcher: Searcher,
    store: Store,
    queries: Float[np.ndarray, 'n q'],
    k: int,
  ):
    """Searches exactly.

    Args:
      searcher: Searches the index.
      store: The index.
      queries: Encoded queries, one or more.
      k: Videos of a query.
    """
    self._searcher, self._groups = searcher, store.groups
    self._queries = queries
    self._best = self._videos(k)

  def recall(self, database: Database) -> Recall:
    """Returns what a database finds of the best videos, as a search uses it."""
    n, k = self._best.shape
    found = self._videos(k, database)
    shares = [
      len(np.intersect1d(a, b)) / k
      for a, b in zip(self._best, found, strict=True)
    ]
    return Recall(
      float(np.mean(shares)), k, n, float(np.std(shares) / np.sqrt(n))
    )

  def _videos(
    self, k: int, database: Database | None = None
  ) -> Int[np.ndarray, 'n k']:
    found = self._searcher.search(self._queries, k, first_pass=database)
    return self._groups[found[1]]


def choose_depth(database: Database, exact: Exact) -> Recall:
  """Makes a database search as deep as the target needs; returns its recall.

  If no depth reaches the target, the last one is kept.

  Args:
    database: The database, which keeps the depth.
    exact: The best videos of the queries that are tried.
  """
  depths = [x for x in DEPTHS if x or database.vectors <= COMPARED]
  found = None
  for depth in depths:
    database.keep(depth)
    found = exact.recall(database)
    if found.value - found.error >= TARGET:
      break
  assert found is not None
  return found
