"""The rows of `search.py`: each way to search an archive, measured.

`measure` runs in a process of its own, see `processes`.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import harness
import numpy as np
import search_archives
import search_rivals
from processes import memory
from search_archives import BEST

from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.program import READS, best_of

# Function of queries (n, d) and k that returns the rows of videos (n, k).
Search = Callable[[np.ndarray, int], np.ndarray]
BATCHES = (1, 64)
# Timed searches of each batch size, at most and at least.
_MOST, _LEAST = {1: 200, 64: 20}, 3
# First passes of the product that need nothing built, by row.
OWN = {'exact': None, 'int8': 'int8'}
NAMES = (*OWN, 'lists', *search_rivals.FAISS, *search_rivals.DATABASES)


@dataclasses.dataclass(frozen=True)
class Job:
  """How a row is measured.

  Attributes:
    folder: The archive.
    place: A folder for what other programs build.
    memory: Bytes that a row may take.
    bandwidth: Bytes of memory that this machine reads per second.
    recalls: Shares that the product's lists shall find; each is a variant.
    probes: Lists that FAISS looks into; each number is a variant.
    found: Tokens that FAISS finds in a branch.
    depth: Videos whose scores are computed exactly after another program.
    seconds: Seconds of the timed searches of a batch size, about.
  """

  folder: pathlib.Path
  place: pathlib.Path
  memory: float
  bandwidth: float
  recalls: tuple[float, ...]
  probes: tuple[int, ...]
  found: int
  depth: int
  seconds: float


@dataclasses.dataclass(frozen=True)
class Variant:
  """A way to search.

  Attributes:
    search: It.
    settings: What tells it from other variants of its row.
    facts: Build seconds, bytes of memory and of disk.
    reads: Bytes that one query reads; 0 if that is not known.
    alone: The other program's own search alone, if it is only a part.
  """

  search: Search
  settings: dict[str, Any]
  facts: dict[str, Any]
  reads: float = 0
  alone: Callable[..., Any] | None = None


def measure(name: str, job: Job) -> Iterator[dict[str, Any]]:
  """Yields the figures of each variant of a row.

  Args:
    name: One of `NAMES`.
    job: How.
  """
  harness.keep_freed_pages()
  before = memory()['anonymous']
  index = search_archives.opened(job.folder)
  questions = search_archives.questions(job.folder)
  make = _maker(name)
  for variant in make(name, index, job):
    line: dict[str, Any] = {'row': name, **variant.settings}
    line['kinds'] = {
      kind: _figures(variant, *asked, job) for kind, asked in questions.items()
    }
    found = memory()
    videos = len(index.store)
    grown = int(max(found['anonymous'] - before, 0) / videos)
    yield {
      **line,
      **variant.facts,
      'memory_bytes': int(variant.facts.get('memory_bytes', grown)),
      'peak_gib': round(found['peak'] / 2**30, 2),
    }


def _maker(
  name: str,
) -> Callable[[str, Index, Job], Iterator[Variant]]:
  if name in OWN:
    return _own
  if name in search_rivals.FAISS:
    return _faiss
  return _lists if name == 'lists' else _database


def _own(name: str, index: Index, job: Job) -> Iterator[Variant]:
  """Yields the product's own search without lists."""
  searcher, store, how = index.searcher, index.store, OWN[name]
  search = lambda queries, k: searcher.search(queries, k, first_pass=how)[1]
  size = searcher.bytes_per_video(how)
  kinds = [store.kind, *([searcher.first_passes[how]] if how else [])]
  facts = {
    'build_seconds': search_archives.facts_of(job.folder)['write_seconds'],
    'memory_bytes': size,
    'disk_bytes': sum(store.bytes_per_row(READS[k]) for k in kinds),
    'resident': searcher.resident(how),
  }
  yield Variant(search, {}, facts, size * len(store))


def _lists(name: str, index: Index, job: Job) -> Iterator[Variant]:
  """Yields the product's own search by lists, for each recall."""
  seconds = search_archives.facts_of(job.folder)['write_seconds']
  place = job.folder / search_archives.INDEX
  search_archives.drop_lists(place)
  for recall in job.recalls:
    took = search_archives.make_lists(
      place, index.retriever, recall, job.memory
    )
    seconds += took['lists_seconds']
    opened = search_archives.opened(job.folder)
    searcher, videos = opened.searcher, len(opened.store)
    search = lambda queries, k, searcher=searcher: searcher.search(
      queries, k, first_pass=name
    )[1]
    tokens = opened.store.bytes_per_row(READS[opened.store.kind])
    size = took['lists_bytes'] // videos
    yield Variant(
      search,
      {
        'recall': recall,
        'probes': took['probes'],
        'rescored': took['depth'],
        'recall_of_own_queries': took['recall_of_own_queries'],
      },
      {
        'build_seconds': round(seconds, 1),
        'memory_bytes': size,
        'disk_bytes': tokens + size,
      },
    )


def _faiss(name: str, index: Index, job: Job) -> Iterator[Variant]:
  """Yields FAISS with each number of probes, and with exact scores of what it
  finds."""
  built, facts = search_rivals.built_branches(
    name, index, job.place / name, job.memory
  )
  kind = search_rivals.FAISS[name]
  reads = float(facts['memory_bytes'] * len(index.store))
  for probes in job.probes if kind.lists else (0,):
    for branch in built.values():
      branch.set(probes, job.found)
    candidates = search_rivals.faiss_candidates(built, index, job.found)
    settings = {'probes': probes} if probes else {}
    plain = name == 'faiss_flat'
    alone = search_rivals.faiss_alone(built, job.found)
    yield Variant(candidates, settings, facts, reads if plain else 0, alone)
    yield Variant(
      _rescored(index, candidates, job.depth),
      {**settings, 'rescored': job.depth},
      facts,
    )


def _database(name: str, index: Index, job: Job) -> Iterator[Variant]:
  """Yields a database, with exact scores of what it finds."""
  place = job.place / name
  began = time.perf_counter()
  candidates = search_rivals.DATABASES[name](place, index)
  seconds = round(time.perf_counter() - began, 1)
  files = [path for path in place.rglob('*') if path.is_file()]
  size = sum(path.stat().st_size for path in files)
  yield Variant(
    _rescored(index, candidates, job.depth),
    {'rescored': job.depth},
    {'build_seconds': seconds, 'disk_bytes': size // len(index.store)},
  )


def _rescored(
  index: Index, candidates: search_rivals.Candidates, depth: int
) -> Search:
  """Returns a search that computes the scores of candidates exactly."""

  def search(queries: np.ndarray, k: int) -> np.ndarray:
    rows = candidates(queries, depth)
    return best_of(index.searcher.exact(queries, rows), rows, k)[1]

  return search


def _figures(
  variant: Variant, queries: np.ndarray, exact: np.ndarray, job: Job
) -> dict[str, Any]:
  """Returns the recall of a search and its speed in batches."""
  size = BATCHES[-1]
  found = [
    variant.search(queries[start : start + size], BEST)
    for start in range(0, len(queries), size)
  ]
  figures: dict[str, Any] = {
    'recall_at_10': recall(exact, np.concatenate(found))
  }
  for batch in BATCHES:
    figures[f'batch_{batch}'] = timings(
      variant.search, queries, batch, job.seconds
    )
  if variant.alone is not None:
    figures['alone'] = timings(variant.alone, queries, 1, job.seconds)
  if variant.reads:
    seconds = figures['batch_1']['p50_ms'] / 1000
    share = variant.reads / seconds / job.bandwidth
    figures['share_of_bandwidth'] = round(share, 3)
  return figures


def recall(exact: np.ndarray, found: np.ndarray) -> float:
  """Returns the share of the exact best videos that were found."""
  hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
  return round(float(np.mean(hits)) / exact.shape[1], 4)


def timings(
  search: Callable[[np.ndarray, int], Any],
  queries: np.ndarray,
  batch: int,
  seconds: float,
) -> dict[str, float]:
  """Returns queries per second and percentiles of a batch.

  Args:
    search: What is timed.
    queries: Each batch takes the next ones.
    batch: Queries of a batch.
    seconds: No search begins after so many seconds, apart from the first few.
  """
  took: list[float] = []
  begun = time.perf_counter()
  # The first search loads and compiles, and is not counted.
  for number in range(_MOST[batch] + 1):
    few = np.roll(queries, -number * batch, axis=0)[:batch]
    start = time.perf_counter()
    search(few, BEST)
    if number:
      took.append(time.perf_counter() - start)
    else:
      begun = time.perf_counter()
    late = time.perf_counter() - begun > seconds
    if late and len(took) >= _LEAST:
      break
  middle, last = np.percentile(took, [50, 99])
  return {
    'queries_per_second': round(min(batch, len(queries)) / float(middle), 1),
    'p50_ms': round(1000 * float(middle), 2),
    'p99_ms': round(1000 * float(last), 2),
    'timed': len(took),
  }
