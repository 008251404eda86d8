"""Other programs on the tokens of an index, for `search.py`.

FAISS stores vectors, not videos: one index has all clip tokens, another all
frame tokens. The best token of a video is taken from the best tokens of all
videos; if a branch finds none of a video, its lowest found score is used.
This needs the extra `bench`, and Qdrant the extra `database`.
"""

import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from lancedb_rival import LanceRival

from dreamprvr_jax.archive.database.database import Database
from dreamprvr_jax.archive.database.export import export
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index

NAMES = ('faiss_flat', 'faiss_ivf', 'faiss_hnsw', 'lancedb', 'qdrant')
# Number of rows that are read at a time.
_ROWS = 512
_WEIGHTS = {'clip': 0.7, 'frame': 0.3}

# Function of queries (n, d) and k that returns rows (n, k).
Search = Callable[[np.ndarray, int], np.ndarray]


def build(
  name: str, opened: Index, place: pathlib.Path, options: Any
) -> tuple[Search, dict[str, Any]]:
  """Returns a search, and the size of its index.

  Args:
    name: One of `NAMES`.
    opened: The index with the tokens.
    place: A folder for the built index.
    options: `probes` and `tokens_found` of FAISS.
  """
  began, store = time.perf_counter(), opened.store
  if name in ('lancedb', 'qdrant'):
    if name == 'qdrant':
      export(str(place), store)
      found = Database(str(place), store)
    else:
      found = LanceRival(place, store)
    search = lambda queries, k: opened.searcher.search(
      queries, k, first_pass=found
    )[1]
  else:
    place.mkdir()
    search = _faiss(name.removeprefix('faiss_'), store, options, place)
  size = sum(p.stat().st_size for p in place.rglob('*') if p.is_file())
  return search, {
    'build_seconds': round(time.perf_counter() - began, 1),
    'bytes_per_video': size // len(store),
  }


def _faiss(
  kind: str, store: Store, options: Any, folder: pathlib.Path
) -> Search:
  """Returns a search with FAISS; its indices are written to the folder."""
  import faiss

  built = {}
  for branch in _WEIGHTS:
    width = store.manifest.width
    tokens = getattr(store.manifest, f'{branch}s')
    lists = max(int(4 * np.sqrt(tokens * len(store))), 1)
    if kind == 'flat':
      index = faiss.IndexFlatIP(width)
    elif kind == 'ivf':
      coarse = faiss.IndexFlatIP(width)
      index = faiss.IndexIVFFlat(
        coarse, width, lists, faiss.METRIC_INNER_PRODUCT
      )
      index.train(np.concatenate(list(_units(store, branch, 40 * lists))))
      index.nprobe = options.probes
    else:
      index = faiss.IndexHNSWFlat(width, 32, faiss.METRIC_INNER_PRODUCT)
      index.hnsw.efSearch = options.tokens_found
    for few in _units(store, branch):
      index.add(few)
    faiss.write_index(index, str(folder / branch))
    built[branch] = index

  def search(queries: np.ndarray, k: int) -> np.ndarray:
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    scores = np.zeros((len(queries), len(store)), np.float32)
    for branch, index in built.items():
      tokens = getattr(store.manifest, f'{branch}s')
      found, places = index.search(queries, options.tokens_found)
      for own, near, where in zip(scores, found, places, strict=True):
        # The order is ascending, so that the best token of a video is written
        # last.
        order = np.flatnonzero(where >= 0)[::-1]
        best = np.full(len(store), near[order].min(initial=1), np.float32)
        best[where[order] // tokens] = near[order]
        own += _WEIGHTS[branch] * best
    return np.argsort(-scores, axis=1, kind='stable')[:, :k]

  return search


def _units(
  store: Store, branch: str, most: int | None = None
) -> Iterator[np.ndarray]:
  """Yields the normalised tokens of a branch in order; with `most`, about that
  many, from evenly spaced videos."""
  tokens = getattr(store.manifest, f'{branch}s')
  step = 1 if most is None else max(len(store) * tokens // most, 1)
  rows = np.arange(0, len(store), step)
  for start in range(0, len(rows), _ROWS):
    found = store.tokens(branch, rows[start : start + _ROWS])
    found /= np.linalg.norm(found, axis=-1, keepdims=True)
    yield found.reshape(-1, found.shape[-1])
