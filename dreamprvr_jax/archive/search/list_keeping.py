"""Making the lists of an index, and keeping them up to date."""

import dataclasses
import logging
import os
import pathlib

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from dreamprvr_jax.archive.index import checksums
from dreamprvr_jax.archive.index.files import DamagedError
from dreamprvr_jax.archive.index.lists_record import ListsRecord
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.segments import (
  clean,
  locked,
  new_lists,
  settle,
)
from dreamprvr_jax.archive.index.store import Store, check_retriever
from dreamprvr_jax.archive.lists.branch_lists import import_faiss
from dreamprvr_jax.archive.lists.lists import Lists
from dreamprvr_jax.archive.search import list_settings
from dreamprvr_jax.archive.search.first_pass import FirstPass, standing
from dreamprvr_jax.archive.search.list_search import MEASURED
from dreamprvr_jax.archive.search.program import best_of
from dreamprvr_jax.archive.search.searcher import Searcher
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar
from dreamprvr_jax.trained.retriever import Retriever

# Videos that each search scores exactly beside the lists, at most.
_LATE = 1024
# The number of lists fits up to so many times more or fewer videos.
_GROWTH = 4
# Share of the listed videos that may be gone.
_GONE = 0.5
# New videos are of another kind if their representatives fit the centres so
# much less, and they are this share of all.
_WORSE, _MANY = 0.8, 0.1
# Rows that are scored exactly at a time.
_ROWS = 2048

_log = logging.getLogger(__name__)


def keep_lists(
  directory: os.PathLike[str] | str,
  retriever: Retriever,
  *,
  recall: float = 0.0,
  memory: float,
  mesh: Mesh | None = None,
  show: bool = False,
) -> Manifest:
  """Makes the lists of an index, or brings them up to date; nothing is encoded.

  New videos are added to the lists once there are more than a search should
  score beside them. The lists are made again, from the stored tokens, if they
  no longer fit: many more videos or fewer, many of them gone, or new ones of
  another kind. Then probes and depth are measured; see `list_settings`. Until
  all is written, the index is unchanged.

  Args:
    directory: The index.
    retriever: The retriever that encoded its videos.
    recall: The share of the exact best ten that a search shall find; 0 for that
      of the present lists, and for no lists if there are none.
    memory: Bytes that this may take.
    mesh: Devices of the exact search; all if None.
    show: Whether progress bars are shown.

  Raises:
    UserError: If FAISS is missing, the retriever has no tokens to compare, the
      lists do not fit in the memory, or another process writes to the index.
  """
  manifest = Manifest.read(directory)
  if not recall and manifest.lists is None:
    return manifest
  if not 0 <= recall < 1:
    raise UserError(
      f'--recall={recall} is no share of the best ten; give one above 0 and '
      'below 1, such as 0.98'
    )
  if not retriever.is_plain:
    raise UserError(
      'lists need a score that is the best cosine or product with a token, and '
      f'that of {type(retriever.model).__name__} is not; leave out --recall'
    )
  import_faiss()
  with locked(directory) as root:
    store = Store(root)
    check_retriever(store, retriever)
    clean(root, store.manifest)
    manifest = store.manifest
    record = _kept(root, store, retriever, recall, memory, mesh, show)
    if record != manifest.lists:
      manifest = dataclasses.replace(manifest, lists=record)
      manifest.write(root)
      clean(root, manifest, store.manifest)
  return manifest


def _kept(
  root: pathlib.Path,
  store: Store,
  retriever: Retriever,
  recall: float,
  memory: float,
  mesh: Mesh | None,
  show: bool,
) -> ListsRecord | None:
  """Returns the record of lists that are up to date."""
  former, model = store.manifest.lists, retriever.model
  if not store.videos:
    return None
  lists = None
  if former is not None:
    recall = recall or former.recall
    try:
      late, gone = standing(store, former)
      is_worn = _is_worn(former, store, gone)
      if not is_worn and late <= _LATE and recall == former.recall:
        return former
      first = None if is_worn else FirstPass.open(store, model)
    except DamagedError as error:
      _log.warning('%s; the lists are made again', error)
      first = None
    if first is not None:
      lists = first.lists
      if len(first.late):
        lists.check_memory(store, len(first.late), memory)
        lists = _extended(first, store, retriever, show)
  trained = former.trained if former and lists else store.videos
  if lists is None:
    lists = Lists.built(store, model, memory, show=show)
  with new_lists(root) as folder:
    lists.write(folder)
    settle(folder)
    record = ListsRecord(
      folder.name,
      checksums.record(folder),
      trained,
      lists.fit,
      recall,
      probes=1,
      depth=1,
      found=0.0,
      queries=list_settings.QUERIES,
    )
    return _measured(store, retriever, lists, record, mesh, show)


def _is_worn(record: ListsRecord, store: Store, gone: float) -> bool:
  """Returns whether lists should be made again, and logs why."""
  trained = record.trained
  if not trained / _GROWTH <= store.videos <= trained * _GROWTH:
    _log.info(
      'the lists are made again: there were %s videos when they were made, and '
      'there are %s now',
      f'{trained:,}',
      f'{store.videos:,}',
    )
    return True
  if gone > _GONE:
    _log.info(
      'the lists are made again: %.0f %% of their videos are gone', 100 * gone
    )
    return True
  return False


def _extended(
  first: FirstPass, store: Store, retriever: Retriever, show: bool
) -> Lists | None:
  """Returns lists that name all videos; None if they should be made again."""
  lists, names = first.lists, list(store.rows_of())
  new = [names[number] for number in first.late]
  lists.forget(first.record.dropped)
  fits = lists.add(store, retriever.model, new, show=show)
  worst = min(
    fit / max(lists.fit[branch], 1e-12) for branch, fit in fits.items()
  )
  if worst < _WORSE and len(new) > _MANY * store.videos:
    _log.info(
      'the lists are made again: new videos are of another kind (%.0f %% of '
      'the fit of former ones)',
      100 * worst,
    )
    return None
  return lists


def _measured(
  store: Store,
  retriever: Retriever,
  lists: Lists,
  record: ListsRecord,
  mesh: Mesh | None,
  show: bool,
) -> ListsRecord:
  """Returns the record with probes and depth for its recall."""
  first = FirstPass(store, retriever.model, lists, record)
  searcher = Searcher(retriever, store, mesh or meshes.make_mesh())
  queries = list_settings.own_queries(store, retriever.model)
  alive = np.flatnonzero(store.items >= 0).astype(np.int32)
  best = _exact_videos(searcher, store, queries, alive, show)
  probes, depth, found = list_settings.settings(
    first,
    queries,
    best,
    record.recall,
    lambda query, count: searcher.exact(
      query, _spaced(alive, count * len(alive) // store.videos)[None]
    ),
  )
  if found < record.recall:
    _log.warning(
      'the lists find %.4f of the best %d at most, less than the %.4f that was '
      'asked for; an exact search finds all (--first_pass=none)',
      found,
      MEASURED,
      record.recall,
    )
  return dataclasses.replace(record, probes=probes, depth=depth, found=found)


def _spaced(rows: Int[np.ndarray, ' r'], count: int) -> Int[np.ndarray, ' c']:
  """Returns about so many of the rows, evenly spaced."""
  return rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def _exact_videos(
  searcher: Searcher,
  store: Store,
  queries: Float[np.ndarray, 'n d'],
  alive: Int[np.ndarray, ' r'],
  show: bool,
) -> Int[np.ndarray, 'n k']:
  """Returns the numbers of the best videos of some queries.

  Unlike `Searcher.search`, it keeps no tokens in memory, and scores all queries
  at once.

  Args:
    searcher: Scores rows.
    store: The index.
    queries: Encoded queries.
    alive: The rows that were not removed.
    show: Whether a progress bar is shown.
  """
  scores = np.full((len(queries), 0), -np.inf, np.float32)
  videos = np.full((len(queries), 0), -1, np.int32)
  begins = np.flatnonzero(np.diff(store.groups[alive], prepend=-1))
  start = 0
  with bar([], 'exact search', total=len(alive), show=show) as progress:
    while start < len(alive):
      # Whole videos, one at least.
      next_ = np.searchsorted(begins, start, side='right')
      last = np.searchsorted(begins, start + _ROWS, side='right') - 1
      stop = len(alive)
      if max(next_, last) < len(begins) and start + _ROWS < len(alive):
        stop = int(begins[max(next_, last)])
      few = alive[start:stop]
      own = begins[(begins >= start) & (begins < stop)] - start
      found = searcher.exact(
        queries, np.broadcast_to(few, (len(queries), len(few)))
      )
      best = np.maximum.reduceat(found, own, axis=1)
      named = np.broadcast_to(store.groups[few[own]], best.shape)
      scores, videos = best_of(
        np.concatenate([scores, best], axis=1),
        np.concatenate([videos, named], axis=1),
        MEASURED,
      )
      progress.update(len(few))
      start = stop
  return videos
