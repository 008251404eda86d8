"""The best videos of an index for some queries, scored block by block."""

import functools
import importlib.util
import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from dreamprvr_jax.archive.index.files import DamagedError
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.first_pass import FirstPass
from dreamprvr_jax.archive.search.list_search import ListSearch, best_videos
from dreamprvr_jax.archive.search.program import best_of
from dreamprvr_jax.archive.search.row_scores import (
  Best,
  RowScores,
  filled,
  slices,
)
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever

# How many times more rows than videos are looked at, and how many times more
# again if that was too few.
_DEPTH = 4
# Rows that each search scores beside the lists, at most.
_MOST_LATE = 2**14
# In the time in which one video is read from the files and scored, so many are
# scored whose tokens are in memory: 15 of 160 tokens, 43 of 33 tokens, in the
# measurements of docs/benchmarks.md, "Search".
_AS_ONE = 40

_log = logging.getLogger(__name__)

# Takes encoded queries (n, q) and a count m; returns candidates for the best m
# rows of each, (n, m or more), filled up with -1.
Candidates = Callable[[np.ndarray, int], np.ndarray]


class Searcher(RowScores):
  """Finds the best videos of a store."""

  def __init__(
    self, retriever: Retriever, store: Store, mesh: Mesh, **options: Any
  ):
    """Takes what `RowScores` takes."""
    super().__init__(retriever, store, mesh, **options)
    self._lock = threading.Lock()

  def search(
    self,
    queries: Float[np.ndarray, 'n q'],
    k: int,
    *,
    first_pass: str | Candidates | None = None,
    rescore: int = 4,
    allowed: Bool[np.ndarray, ' rows'] | None = None,
  ) -> Best:
    """Returns the scores and rows (n, k) of the best videos, by falling score,
    equal ones by rising row.

    A video's score is that of its best row, and this is the row that is found.

    Args:
      queries: What `encode` returns.
      k: Videos to find; all if there are fewer.
      first_pass: None to score all videos exactly; 'lists' to score only those
        exactly that the lists of the index find; 'int8' to score only the best
        `rescore` * k by these codes exactly; a function that finds as many
        candidates; or 'auto', see `chosen`.
      rescore: See `first_pass`.
      allowed: Which rows may be found; all if None. If there are fewer than k,
        there are as many hits, and none if there is none.

    Raises:
      UserError: If the index is empty, has no such first pass, or has tokens
        that are not finite; or if a function as first pass has to heed
        `allowed`, or finds too few videos.
    """
    count = self._store.manifest.num_videos
    if not count:
      raise UserError(
        f'the index {self._store.directory} has no videos; add some with '
        '--mode=index --append'
      )
    if k < 1 or rescore < 1:
      raise UserError(
        f'k is {k} and rescore {rescore}; both have to be at least 1'
      )
    if not np.isfinite(queries).all():
      raise UserError(
        'the encoding of a query has numbers that are not finite; check its '
        f'features and the checkpoint {self._retriever.checkpoint}'
      )
    groups = self._store.groups
    real = groups >= 0 if allowed is None else (groups >= 0) & allowed
    rows = int(real.sum())
    if allowed is not None:
      allowed, count = real, len(np.unique(groups[real]))
    k = min(k, count)
    if not k:
      empty = np.zeros((len(queries), 0))
      return empty.astype(np.float32), empty.astype(np.int32)
    if isinstance(first_pass, str):
      first_pass = self.chosen(first_pass)
    self._check_first_pass(first_pass, allowed)
    if first_pass == 'lists' and self.lists:
      found = self.lists.search(queries, k, real)
      return found or self.search(queries, k, allowed=allowed)
    # Several rows of one video may be among the best, which leaves fewer than k
    # videos; then more rows are looked at. Powers of two: few compilations.
    depth = k if rows == count else min(filled(_DEPTH * k), rows)
    while True:
      scores, found = self._ranked(
        queries, depth, first_pass, min(rescore * depth, rows), allowed
      )
      best = best_videos(scores, found, groups, k)
      if best is not None:
        return best
      if depth >= rows and callable(first_pass):
        # Databases of many videos search only a part of them.
        raise UserError(
          f'the first pass finds fewer than {k} of {count} videos for a query; '
          'ask for fewer, or search without it'
        )
      if depth >= rows:
        raise RuntimeError(f'{rows} rows of {count} videos gave fewer than {k}')
      depth = min(_DEPTH * depth, rows)

  @property
  def lists(self) -> ListSearch | None:
    """Searches by the lists of the index, which are read here; None if it has
    none, if too many videos are not in them, or if another command has removed
    them since the index was opened.

    Raises:
      UserError: If FAISS is missing, or a file of them is damaged.
    """
    # Several threads may search first.
    with self._lock:
      return self._opened_lists

  @functools.cached_property
  def _opened_lists(self) -> ListSearch | None:
    store = self._store
    try:
      first = FirstPass.open(store, self._retriever.model)
    except DamagedError:
      if Manifest.read(store.directory).lists == store.manifest.lists:
        raise
      _log.warning(
        'the lists of %s were made again since it was opened; all videos are '
        'scored until it is opened again',
        store.directory,
      )
      return None
    late = np.isin(store.groups, first.late).sum() if first else 0
    if late > _MOST_LATE:
      _log.warning(
        '%s rows of %s are not in its lists; all videos are scored. Bring the '
        'lists up to date with --mode=index --index=%s --recall=SHARE',
        f'{late:,}',
        store.directory,
        store.directory,
      )
      return None
    return first and ListSearch(self, self._store, first)

  def chosen(self, first_pass: str) -> str | None:
    """Returns the first pass that a name stands for, None for none.

    'auto' is 'lists' on a CPU if the index has some and FAISS is installed, and
    otherwise 'none': an accelerator scores all videos faster. So does a CPU if
    the lists leave too many of the videos, whose tokens fit in memory.
    """
    if first_pass != 'auto':
      return None if first_pass == 'none' else first_pass
    on_cpu = self._mesh.devices.flat[0].platform == 'cpu'
    record = self._store.manifest.lists
    if record is None or not on_cpu:
      return None
    if record.depth * _AS_ONE >= self._store.videos and self.resident():
      return None
    if importlib.util.find_spec('faiss') is None:
      _log.warning(
        '%s has lists for a first pass, which need FAISS; all videos are '
        "scored. Install it with pip install 'dreamprvr_jax[lists]'",
        self._store.directory,
      )
      return None
    return 'lists' if self.lists else None

  def _ranked(
    self,
    queries: Float[np.ndarray, 'n q'],
    depth: int,
    first_pass: str | Candidates | None,
    wanted: int,
    allowed: Bool[np.ndarray, ' rows'] | None,
  ) -> Best:
    """Returns the scores and rows of the best rows; see `search`.

    Args:
      queries: The queries.
      depth: Rows to find.
      first_pass: See `search`.
      wanted: Candidates of a first pass.
      allowed: See `search`.
    """
    if first_pass is None:
      return self.best(queries, depth, self._parts.exact, allowed)
    if callable(first_pass):
      rows = first_pass(queries, wanted)
    else:
      kind = self.first_passes[first_pass]
      _, rows = self.best(queries, wanted, kind, allowed)
    scores = [self.exact(queries[c], rows[c]) for c in slices(len(queries))]
    return best_of(np.concatenate(scores), rows, depth)

  def recall(
    self,
    queries: Float[np.ndarray, 'n q'],
    k: int,
    *,
    first_pass: str | Candidates,
    rescore: int = 4,
  ) -> float:
    """Returns the share of the exact best k videos that a first pass finds."""
    groups = self._store.groups
    exact, found = (
      groups[rows]
      for _, rows in (
        self.search(queries, k),
        self.search(queries, k, first_pass=first_pass, rescore=rescore),
      )
    )
    hits = [
      len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)
    ]
    return float(np.mean(hits) / exact.shape[1])

  def _check_first_pass(
    self, first_pass: str | Candidates | None, allowed: Any
  ) -> None:
    """Raises UserError unless the index has such a first pass."""
    if first_pass is None:
      return
    if not self._retriever.is_plain:
      raise UserError(
        'a first pass needs a score that is the best cosine or product with a '
        f'token, and that of {type(self._retriever.model).__name__} is not; '
        'search without one'
      )
    if callable(first_pass):
      if allowed is not None:
        raise UserError(
          'a database as first pass does not know the files of the videos; '
          'leave out the conditions on them, or search without it'
        )
      return
    if first_pass == 'lists':
      if self.lists is None:
        raise UserError(
          f'the index {self._store.directory} has no lists, or none that '
          'name most videos; make them with --mode=index --recall=0.98, or '
          'search without a first pass'
        )
      return
    if first_pass not in self.first_passes:
      raise UserError(
        f'there is no first pass {first_pass!r}; choose lists, '
        f'{" or ".join(self.first_passes)}, or none'
      )
    needed = f'float16+{first_pass}'
    if self._store.manifest.tokens != needed:
      raise UserError(
        f'the index {self._store.directory} has '
        f'{self._store.manifest.tokens} tokens; a first pass in {first_pass} '
        f'needs both: make the index with --tokens={needed}'
      )
