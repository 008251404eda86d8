"""A first pass by the lists of an index: which videos are scored exactly.

Each branch's lists give the representatives with the largest products with a
query, which name videos. A video's estimate is the sum of the best of its
representatives, weighted by the branch; a branch that did not find the video
counts as the least that it found. The videos with the largest estimates are the
candidates. Videos that the lists do not name are scored exactly, all of them.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from dreamprvr_jax.archive.index import checksums
from dreamprvr_jax.archive.index.layout import BRANCHES, read_ids
from dreamprvr_jax.archive.index.lists_record import (
  LISTS,
  NAMES,
  ListsRecord,
)
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.lists.lists import Lists
from dreamprvr_jax.archive.search.threads import spread
from dreamprvr_jax.archive.search.timelines import unit
from dreamprvr_jax.models.contract import Model

# Representatives that a branch finds, for each candidate: several may be of one
# video.
_FOUND = 3
# And at least so many.
_LEAST = 100


class FirstPass:
  """The lists of an index that is open for search.

  Attributes:
    lists: The lists.
    record: How they are searched.
    videos: Number of videos of the index.
    late: (v,) int32, numbers of the videos that the lists do not name.
    most_probes: The largest number of lists of a branch; 1 if representatives
      are compared one by one.
  """

  def __init__(
    self, store: Store, model: Model, lists: Lists, record: ListsRecord
  ):
    """Args:
    store: The index.
    model: Has the weights of the branches.
    lists: Its lists.
    record: What its manifest says of them.
    """
    self.lists, self.record, self.videos = lists, record, store.videos
    self._weights = {
      branch: weight
      for branch, weight in zip(BRANCHES, _weights(model), strict=True)
      if branch in lists.branches
    }
    self._groups = _groups(store, lists.names, record)
    self.late = _late(store, self._groups)
    self.most_probes = max(
      [1, *(one.centres for one in lists.branches.values())]
    )

  @classmethod
  def open(cls, store: Store, model: Model) -> 'FirstPass | None':
    """Returns the first pass of an index; None if it has no lists.

    Raises:
      UserError: If FAISS is missing, or a file of the lists is damaged.
    """
    record = store.manifest.lists
    if record is None:
      return None
    folder = store.directory / LISTS / record.name
    # FAISS trusts its files, so all of them are checked.
    checksums.check(folder, record.files)
    return cls(
      store, model, Lists.read(folder, record, store.manifest.width), record
    )

  def candidates(
    self,
    queries: Float[np.ndarray, 'n d'],
    depth: int,
    probes: int,
    allowed: Bool[np.ndarray, ' v'] | None = None,
  ) -> Int[np.ndarray, 'n m']:
    """Returns numbers of videos to score exactly, the best first, -1 where
    there are fewer; m is `depth`.

    Args:
      queries: Encoded queries, of any length.
      depth: Candidates of a query, at most.
      probes: Lists that are looked into.
      allowed: Which videos may be candidates; all if None.
    """
    queries = unit(queries)
    count = max(_FOUND * depth, _LEAST)
    if allowed is not None:
      # Those that are not allowed take places, too.
      count = int(count / max(allowed.mean(), 1 / len(allowed)))
    by_branch = spread(
      lambda branch: self._best(branch, queries, count, probes, allowed),
      list(self._weights),
    )
    weights = self._weights.values()
    branches = [(w, *few) for w, few in zip(weights, by_branch, strict=True)]
    found = np.full((len(queries), depth), -1, np.int32)
    for i in range(len(queries)):
      groups, estimates = _estimates(
        [(weight, s[i], g[i], least[i]) for weight, s, g, least in branches]
      )
      best = np.argsort(-estimates, kind='stable')[:depth]
      found[i, : len(best)] = groups[best]
    return found

  def _best(
    self,
    branch: str,
    queries: Float[np.ndarray, 'n d'],
    count: int,
    probes: int,
    allowed: Bool[np.ndarray, ' v'] | None,
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the products (n, k) and the videos (n, k) of a branch's best
    representatives, by falling product; -1 where there is no video. And the
    least of each query's products (n,), of representatives of any video: what
    was not found has no larger one."""
    scores, places = self.lists.branches[branch].search(queries, count, probes)
    owners = self.lists.owners[branch]
    groups = np.full(places.shape, -1, np.int32)
    real = places >= 0
    groups[real] = self._groups[owners[places[real]]]
    if allowed is not None:
      groups[(groups >= 0) & ~allowed[groups]] = -1
    least = np.where(real, scores, np.inf).min(axis=1, initial=np.inf)
    return scores, groups, np.where(np.isfinite(least), least, 0)


def standing(store: Store, record: ListsRecord) -> tuple[int, float]:
  """Returns how many videos of an index its lists do not name, and the share of
  those named that no longer count. Reads the names alone.

  Raises:
    DamagedError: If their file is damaged.
  """
  folder = store.directory / LISTS / record.name
  checks = {NAMES: record.files[NAMES]}
  checksums.check(folder, checks)
  names = read_ids(folder / NAMES)
  groups = _groups(store, names, record)
  gone = float(np.mean(groups < 0)) if names else 0.0
  return len(_late(store, groups)), gone


def _late(store: Store, groups: Int[np.ndarray, ' n']) -> Int[np.ndarray, ' v']:
  """Returns the numbers of the videos that are not among those listed."""
  known = np.zeros(store.videos, bool)
  known[groups[groups >= 0]] = True
  return np.flatnonzero(~known).astype(np.int32)


def _weights(model: Model) -> tuple[float, float]:
  return model.clip_weight, model.frame_weight


def _groups(
  store: Store, names: Sequence[str], record: ListsRecord
) -> Int[np.ndarray, ' n']:
  """Returns the number of each listed video in the store; -1 for those that it
  does not have, or that no longer count."""
  numbers = {name: i for i, name in enumerate(store.rows_of())}
  for name in record.dropped:
    numbers.pop(name, None)
  return np.fromiter(
    (numbers.get(name, -1) for name in names), np.int32, len(names)
  )


def _estimates(
  branches: list[tuple[float, np.ndarray, np.ndarray, float]],
) -> tuple[Int[np.ndarray, ' m'], Float[np.ndarray, ' m']]:
  """Returns the videos that any branch found, and the estimate of each.

  Args:
    branches: Weight, products and videos of a branch, by falling product, and
      what a video counts for that it did not find.
  """
  best = []
  for weight, scores, groups, least in branches:
    real = groups >= 0
    videos, first = np.unique(groups[real], return_index=True)
    best.append((weight, videos, scores[real][first], least))
  groups = np.unique(np.concatenate([one[1] for one in best]))
  found = np.zeros(len(groups))
  for weight, videos, scores, least in best:
    values = np.full(len(groups), least, np.float64)
    values[np.searchsorted(groups, videos)] = scores
    found += weight * values
  return groups, found
