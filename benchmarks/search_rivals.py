"""Other programs on the tokens of an index, for `search.py`.

FAISS stores vectors, not videos: one index has all clip tokens, another all
frame tokens. A query takes the best tokens of each, and of each video the best
of these; where a branch finds none of a video, its lowest found score is used.
The weighted sum of both branches ranks the videos. That is what a user of FAISS
would write. This needs the extra `bench`, and Qdrant the extra `database`.
"""

import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hard_queries import unit
from jaxtyping import Float, Int
from lancedb_rival import LanceRival
from processes import LeftOutError

from dreamprvr_jax.archive.database.database import Database
from dreamprvr_jax.archive.database.export import export
from dreamprvr_jax.archive.index.layout import BRANCHES
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index

# Function of queries (n, d) and a count m that returns the rows of candidates
# (n, m), best first, filled up with -1.
Candidates = Callable[[np.ndarray, int], np.ndarray]

# Rows that are read at a time.
_ROWS = 256
# Tokens for k-means of each list, and of the codes.
_PER_LIST, _FOR_CODES = 40, 2**16
_ROUNDS = 10
# Entries of a token in the graph of HNSW, as bytes: 2 * 32 neighbours below,
# and about one more level.
_LINKS = 2 * 32 * 4 + 16


@dataclasses.dataclass(frozen=True)
class Faiss:
  """A kind of FAISS index.

  Attributes:
    form: What `faiss.index_factory` takes, without the lists.
    lists: Whether there are inverted lists.
    token_bytes: Bytes of a token, from its width.
    rotated: Whether tokens are rotated at random first.
  """

  form: str
  lists: bool
  token_bytes: Callable[[int], int]
  rotated: bool = False

  def bytes_of(self, tokens: int, width: int) -> int:
    """Returns about how many bytes of memory so many tokens need, with the
    number of each token and the sample that trains the lists."""
    sample = 0
    if self.lists:
      sample = 4 * width * min(_PER_LIST * number_of_lists(tokens), tokens)
    return tokens * (self.token_bytes(width) + 12) + sample


FAISS = {
  'faiss_flat': Faiss('Flat', False, lambda d: 4 * d),
  'faiss_ivf_flat': Faiss('Flat', True, lambda d: 4 * d),
  'faiss_ivf_pq96x4': Faiss('PQ96x4fs', True, lambda d: 48),
  'faiss_ivf_pq192x4': Faiss('PQ192x4fs', True, lambda d: 96),
  'faiss_ivf_rabitq1': Faiss('RaBitQfs', True, lambda d: d // 8 + 8, True),
  'faiss_ivf_rabitq4': Faiss('RaBitQfs4', True, lambda d: d // 2 + 20, True),
  'faiss_hnsw': Faiss('HNSW32,Flat', False, lambda d: 4 * d + _LINKS),
}


def number_of_lists(tokens: int) -> int:
  """Returns the number of inverted lists of so many tokens."""
  return max(int(2 * math.sqrt(tokens)), 1)


class Branch:
  """The FAISS index of a branch.

  Attributes:
    index: The index.
    rows: The row of each token.
    seconds: Seconds in which it was built.
  """

  def __init__(
    self, kind: Faiss, store: Store, branch: str, cache: pathlib.Path
  ):
    """Builds it.

    Args:
      kind: The kind of index.
      store: The tokens.
      branch: Which of them.
      cache: A folder for the centres of the lists, which all kinds share; the
        time that they took is counted for each kind.
    """
    import faiss

    began, width = time.perf_counter(), store.manifest.width
    self.rows = np.repeat(
      np.arange(len(store), dtype=np.int32), _real(store, branch).sum(axis=1)
    )
    count, before = len(self.rows), 0.0
    lists = number_of_lists(count)
    form = f'IVF{lists},{kind.form}' if kind.lists else kind.form
    if kind.rotated:
      form = f'RR{width},{form}'
    self.index: Any = faiss.index_factory(
      width, form, faiss.METRIC_INNER_PRODUCT
    )
    if kind.lists:
      centres, before = _centres(store, branch, lists, count, cache)
      # What reading the centres took is no part of building.
      began = time.perf_counter()
      self.ivf = faiss.extract_index_ivf(self.index)
      if kind.rotated:
        rotation = faiss.downcast_VectorTransform(self.index.chain.at(0))
        rotation.train(centres)
        centres = rotation.apply(centres)
      self.ivf.quantizer.train(centres)
      self.ivf.quantizer.add(centres)
      self.index.train(_sample(store, branch, count, _FOR_CODES))
    for few in _units(store, branch):
      self.index.add(few)
    self.seconds = before + time.perf_counter() - began

  def set(self, probes: int, found: int) -> None:
    """Sets how many lists are looked into, and how many tokens HNSW keeps."""
    import faiss

    if hasattr(self, 'ivf'):
      self.ivf.nprobe = probes
    else:
      index: Any = faiss.downcast_index(self.index)
      if hasattr(index, 'hnsw'):
        index.hnsw.efSearch = found


def faiss_alone(built: dict[str, Branch], found: int) -> Callable[..., Any]:
  """Returns the search for the best tokens of each branch, without videos: it
  takes queries (n, d), and returns (scores, tokens) of each branch."""

  def search(queries: Float[np.ndarray, 'n q'], _: int = 0) -> Any:
    queries = unit(queries.astype(np.float32))
    return [
      branch.index.search(queries, min(found, branch.index.ntotal))
      for branch in built.values()
    ]

  return search


def faiss_candidates(
  built: dict[str, Branch], index: Index, found: int
) -> Candidates:
  """Returns the search of a user of FAISS; see the module.

  Args:
    built: The index of each branch.
    index: The archive, which knows the weights of the branches.
    found: Tokens that are asked for in each branch.
  """
  model = index.retriever.model
  weights = {'clip': model.clip_weight, 'frame': model.frame_weight}
  alone = faiss_alone(built, found)

  def search(
    queries: Float[np.ndarray, 'n q'], count: int
  ) -> Int[np.ndarray, 'n m']:
    answers = [
      (weights[name], branch.rows, scores, tokens)
      for (name, branch), (scores, tokens) in zip(
        built.items(), alone(queries), strict=True
      )
    ]
    best = np.full((len(queries), count), -1, np.int32)
    for i in range(len(queries)):
      rows = _ranked([(w, r, s[i], t[i]) for w, r, s, t in answers])[:count]
      best[i, : len(rows)] = rows
    return best

  return search


def _ranked(
  answers: list[tuple[float, np.ndarray, np.ndarray, np.ndarray]],
) -> Int[np.ndarray, ' r']:
  """Returns the rows of one query by falling score.

  Args:
    answers: For each branch its weight, the row of each token, and the scores
      and numbers of the tokens that it found, by falling score.
  """
  parts = []
  for weight, row_of, scores, tokens in answers:
    real = tokens >= 0
    rows, first = np.unique(row_of[tokens[real]], return_index=True)
    best = scores[real][first]
    parts.append((weight, rows, best, best.min(initial=1)))
  every = np.unique(np.concatenate([rows for _, rows, _, _ in parts]))
  total = np.zeros(len(every), np.float32)
  for weight, rows, best, lowest in parts:
    own = np.full(len(every), lowest, np.float32)
    own[np.searchsorted(every, rows)] = best
    total += weight * own
  return every[np.argsort(-total, kind='stable')]


def qdrant(place: pathlib.Path, index: Index) -> Candidates:
  """Exports an index to Qdrant in this process; returns its candidates."""
  export(str(place), index.store)
  return Database(str(place), index.store)


# Each writes an archive to a folder and returns its candidates, whose scores
# the index then computes exactly.
DATABASES: dict[str, Callable[[pathlib.Path, Index], Candidates]] = {
  'lancedb': lambda place, index: LanceRival(place, index.store),
  'qdrant': qdrant,
}


def require_memory(needed: float, given: float) -> None:
  """Raises LeftOutError if a row needs more bytes than it is given."""
  if needed > given:
    raise LeftOutError(
      f'needs about {needed / 2**30:.1f} GB of memory, more than '
      f'--memory={given / 2**30:g}'
    )


def _real(store: Store, branch: str) -> np.ndarray:
  """Returns which tokens of a branch are real, (rows, tokens)."""
  if branch == 'clip':
    return np.ones((len(store), store.manifest.clips), bool)
  return store.read('frame_mask', 0, len(store))


def _units(
  store: Store, branch: str, step: int = 1
) -> Iterator[Float[np.ndarray, 'n d']]:
  """Yields the real tokens of a branch in order, of unit length; of every
  `step`-th row."""
  rows = np.arange(0, len(store), step)
  for start in range(0, len(rows), _ROWS):
    few = rows[start : start + _ROWS]
    tokens = store.tokens(branch, few)
    if branch == 'frame':
      yield unit(tokens[store.take('frame_mask', few)])
    else:
      yield unit(tokens.reshape(-1, tokens.shape[-1]))


def _sample(store: Store, branch: str, count: int, most: int) -> np.ndarray:
  """Returns about `most` tokens, those of evenly spaced rows."""
  return np.concatenate(list(_units(store, branch, max(count // most, 1))))


def _centres(
  store: Store, branch: str, lists: int, count: int, cache: pathlib.Path
) -> tuple[Float[np.ndarray, 'lists d'], float]:
  """Returns the centres of the lists, and the seconds that k-means took."""
  import faiss

  path, facts = cache / f'{branch}.npy', cache / f'{branch}.json'
  if not facts.exists():
    began = time.perf_counter()
    kmeans = faiss.Kmeans(
      store.manifest.width, lists, niter=_ROUNDS, spherical=True, seed=0
    )
    kmeans.train(_sample(store, branch, count, _PER_LIST * lists))
    np.save(path, np.asarray(kmeans.centroids))
    facts.write_text(json.dumps(time.perf_counter() - began))
  return np.load(path), json.loads(facts.read_text())


def built_branches(
  name: str, index: Index, place: pathlib.Path, memory: float
) -> tuple[dict[str, Branch], dict[str, Any]]:
  """Builds a row of `FAISS`.

  Args:
    name: Its name.
    index: The archive.
    place: A folder for what is built.
    memory: Bytes that it may take.

  Returns:
    The index of each branch; the seconds and bytes that they took.

  Raises:
    LeftOutError: If they need more memory.
  """
  import faiss

  kind, store = FAISS[name], index.store
  counts = [int(_real(store, branch).sum()) for branch in BRANCHES]
  width = store.manifest.width
  require_memory(sum(kind.bytes_of(n, width) for n in counts), memory)
  cache = place.with_name('centres')
  cache.mkdir(exist_ok=True)
  place.mkdir(exist_ok=True)
  built = {b: Branch(kind, store, b, cache) for b in BRANCHES}
  size = 0
  for branch, one in built.items():
    path = place / branch
    faiss.write_index(one.index, str(path))
    size += path.stat().st_size
    path.unlink()
  size //= len(store)
  return built, {
    'build_seconds': round(sum(one.seconds for one in built.values()), 1),
    'memory_bytes': size,
    'disk_bytes': size,
  }
