"""How deep the lists of an index are searched for a recall.

It is measured with queries that are made from the index: sentences lie apart
from tokens, and so do they. A query is a token, plus 1.5 times one direction
that all queries share (the gap between sentences and pictures), plus 3 times
noise that spreads as the tokens do; each of the three has about unit length.
`benchmarks/hard_queries.py` has archives and queries of this kind.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.archive.index.layout import BRANCHES
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.first_pass import FirstPass
from dreamprvr_jax.archive.search.timelines import unit
from dreamprvr_jax.models.contract import Model

# Queries that are made.
QUERIES = 200
# Lengths of the gap and of the noise, in tokens of unit length.
_GAP, _NOISE = 1.5, 3.0
# Rows whose tokens show how tokens spread.
_SPREAD = 512
# Depths that are tried.
_DEPTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_LEAST_PROBES = 8
# Queries that are timed one by one.
_TIMED = 16
# Other queries may be harder: of what the recall lacks of 1, this share has to
# be found, too.
_MARGIN = 0.5


def own_queries(
  store: Store, model: Model, count: int = QUERIES
) -> Float[np.ndarray, 'n d']:
  """Returns queries made from the tokens of an index, float32, always the same.

  Args:
    store: The index, with a video or more.
    model: Says which branches count.
    count: Number of queries.
  """
  rng = np.random.default_rng(0)
  rows = np.flatnonzero(store.items >= 0)
  weights = np.array([model.clip_weight, model.frame_weight], float)
  of_clips = rng.random(count) < weights[0] / weights.sum()
  source = rng.choice(rows, count)
  near = np.where(
    of_clips[:, None],
    _tokens(store, 'clip', source, rng),
    _tokens(store, 'frame', source, rng),
  )
  some = rng.choice(rows, _SPREAD)
  branch = BRANCHES[int(np.argmax(weights))]
  spread = _tokens(store, branch, some, rng)
  spread = spread - spread.mean(axis=0)
  noise = rng.standard_normal((count, _SPREAD), np.float32) @ spread
  noise /= max(np.sqrt(np.square(noise).sum(axis=1).mean()), 1e-12)
  gap = unit(rng.standard_normal(near.shape[1], np.float32))
  return unit(near + _GAP * gap + _NOISE * noise)


def _tokens(
  store: Store,
  branch: str,
  rows: Int[np.ndarray, ' n'],
  rng: np.random.Generator,
) -> Float[np.ndarray, 'n d']:
  """Returns a random real token of each row, at unit length."""
  order = np.argsort(rows, kind='stable')
  tokens = np.empty((len(rows), store.manifest.width), np.float32)
  for place in order:
    row = rows[place : place + 1]
    own = store.tokens(branch, row)[0]
    if branch == 'frame':
      own = own[store.take('frame_mask', row)[0]]
    tokens[place] = own[rng.integers(len(own))] if len(own) else 0
  return unit(tokens)


def settings(
  first: FirstPass,
  queries: Float[np.ndarray, 'n d'],
  best: Int[np.ndarray, 'n k'],
  recall: float,
  rescore: Callable[[np.ndarray, int], object],
) -> tuple[int, int, float]:
  """Returns the fastest way to search lists that finds enough.

  Args:
    first: The lists.
    queries: Encoded queries.
    best: Numbers of the videos that the exact search finds for each.
    recall: The share of them that shall be found.
    rescore: Scores that many videos exactly for queries (n, d), to time it.

  Returns:
    The probes; the depth; the share that was found, less than `recall` if no
    way finds enough. Then it is the way that finds the most.
  """
  wanted = recall + _MARGIN * (1 - recall)
  videos = int(first.videos)
  depths = [d for d in _DEPTHS if d < videos] + [min(_DEPTHS[-1], videos)]
  each = _seconds(lambda query: rescore(query, depths[-1]), queries)
  each /= depths[-1]
  fastest, least = None, np.inf
  for probes in _powers(first.most_probes):
    found = lambda depth, probes=probes: _recall(
      first.candidates(queries, depth, probes), best
    )
    if found(depths[-1]) < wanted:
      continue
    low, high = 0, len(depths) - 1
    while low < high:
      middle = (low + high) // 2
      if found(depths[middle]) < wanted:
        low = middle + 1
      else:
        high = middle
    depth = depths[low]
    scan = _seconds(
      lambda query, depth=depth, probes=probes: first.candidates(
        query, depth, probes
      ),
      queries,
    )
    if scan + depth * each < least:
      fastest, least = (probes, depth, found(depth)), scan + depth * each
    elif scan > least:
      break
  if fastest:
    return fastest
  probes, depth = first.most_probes, depths[-1]
  return probes, depth, _recall(first.candidates(queries, depth, probes), best)


def _powers(most: int) -> Iterator[int]:
  """Yields numbers of probes, the last of which is `most`."""
  probes = min(_LEAST_PROBES, most)
  while probes < most:
    yield probes
    probes *= 2
  yield most


def _recall(
  candidates: Int[np.ndarray, 'n m'], best: Int[np.ndarray, 'n k']
) -> float:
  """Returns the mean share of the best videos that are candidates."""
  hits = [
    np.isin(right, some).mean()
    for some, right in zip(candidates, best, strict=True)
  ]
  return float(np.mean(hits))


def _seconds(
  work: Callable[[np.ndarray], object], queries: Float[np.ndarray, 'n d']
) -> float:
  """Returns the median seconds that work for one query takes."""
  work(queries[:1])
  times = []
  for place in range(min(_TIMED, len(queries))):
    start = time.perf_counter()
    work(queries[place : place + 1])
    times.append(time.perf_counter() - start)
  return float(np.median(times))
