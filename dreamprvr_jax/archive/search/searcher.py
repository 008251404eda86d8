"""The best videos of an index for some queries, scored block by block."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.parts import QUERY_BATCH, Parts
from dreamprvr_jax.archive.search.program import (
  FIRST_PASSES,
  READS,
  best_of,
  compile_scores,
  compile_search,
)
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.trained.retriever import Retriever

# How many times more rows than videos are looked at, and how many times more
# again if that was too few.
_DEPTH = 4

Best = tuple[Float[np.ndarray, 'n k'], Int[np.ndarray, 'n k']]
# Takes encoded queries (n, q) and a count m; returns candidates for the best m
# rows of each, (n, m or more), filled up with -1.
Candidates = Callable[[np.ndarray, int], np.ndarray]


class Searcher:
  """Searches the rows of a store; keeps loaded arrays and compiled programs."""

  def __init__(
    self,
    retriever: Retriever,
    store: Store,
    mesh: Mesh,
    *,
    memory_share: float = 0.5,
    device_bytes: float | None = None,
    products: int | None = None,
  ):
    """Loads nothing yet.

    Args:
      retriever: The retriever that encoded the videos.
      store: The stored tokens.
      mesh: The device mesh; its devices share the rows.
      memory_share: Share of the free device memory for tokens. If that is too
        little, each search reads them from the files, part by part.
      device_bytes: Bytes of a device for tokens, instead of that share.
      products: Numbers in the largest (queries, rows, tokens) product; None to
        choose by the devices.
    """
    if not 0 < memory_share <= 1:
      raise UserError(
        f'memory_share is {memory_share}; give a share of the free device '
        'memory, above 0 and at most 1'
      )
    self._retriever, self._store, self._mesh = retriever, store, mesh
    score = retriever.model.token_score
    self._first_passes = FIRST_PASSES.get(score, FIRST_PASSES['cosine'])
    self._parts = Parts(
      store,
      mesh,
      share=memory_share,
      device_bytes=device_bytes,
      products=products,
      token_score=score if _is_float32(retriever.model) else 'other',
    )
    self._variables = meshes.replicate(retriever.variables, mesh)
    self._codebooks = meshes.replicate(store.codebooks, mesh)
    model = retriever.model
    self._encode = jax.jit(
      lambda variables, words, mask: model.apply(
        variables, words, mask, method='encode_query'
      ),
      in_shardings=meshes.replicated(mesh),
      out_shardings=meshes.replicated(mesh),
    )
    self._program = functools.cache(
      lambda kind, block, k: compile_search(
        model, mesh, kind=kind, block=block, k=k
      )
    )
    self._scores = functools.cache(
      lambda kind: compile_scores(model, mesh, kind=kind)
    )

  def encode(
    self, words: Float[np.ndarray, 'n l e'], mask: Bool[np.ndarray, 'n l']
  ) -> Float[np.ndarray, 'n q']:
    """Returns the encoded queries."""
    found = []
    for rows in _chunks(len(words)):
      size = _filled(len(words[rows]))
      encoded = self._encode(
        self._variables, _padded(words[rows], size), _padded(mask[rows], size)
      )
      found.append(np.asarray(encoded)[: len(words[rows])])
    return np.concatenate(found)

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
      first_pass: None to score all videos exactly; 'int8' or 'pq' to score only
        the best `rescore` * k by these codes exactly; or a function that finds
        as many candidates.
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
    self._check_first_pass(first_pass, allowed)
    # Several rows of one video may be among the best, which leaves fewer than k
    # videos; then more rows are looked at. Powers of two: few compilations.
    depth = k if rows == count else min(_filled(_DEPTH * k), rows)
    while True:
      scores, found = self._ranked(
        queries, depth, first_pass, min(rescore * depth, rows), allowed
      )
      best = _best_videos(scores, found, groups, k)
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
      return self._best(queries, depth, self._parts.exact, allowed)
    if callable(first_pass):
      rows = first_pass(queries, wanted)
    else:
      kind = self._first_passes[first_pass]
      _, rows = self._best(queries, wanted, kind, allowed)
    scores = [self._exact(queries[c], rows[c]) for c in _chunks(len(queries))]
    return best_of(np.concatenate(scores), rows, depth)

  def scorer(
    self, rows: Int[np.ndarray, ' m']
  ) -> Callable[[Float[np.ndarray, 'n q']], Float[np.ndarray, 'n m']]:
    """Returns a function from encoded queries to their exact scores with some
    rows, whose tokens stay in device memory.

    The function raises DamagedError if a score is not finite.
    """
    kind, count = self._store.kind, len(rows)
    size = -(-count // self._mesh.size) * self._mesh.size
    stored = {
      name: jax.device_put(
        _padded(self._store.take(name, rows), size), meshes.by_row(self._mesh)
      )
      for name in READS[kind]
    }

    def scores(queries: Float[np.ndarray, 'n q']) -> Float[np.ndarray, 'n m']:
      found = []
      for chunk in _chunks(len(queries)):
        few = queries[chunk]
        filled = _padded(few, _filled(len(few)))
        values = self._scores(kind)(self._held(kind), filled, stored)
        found.append(np.asarray(values)[: len(few), :count])
      whole = np.concatenate(found)
      self._check(whole, np.broadcast_to(rows, whole.shape))
      return whole

    return scores

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

  def resident(self, first_pass: str | None = None) -> bool:
    """Returns whether the tokens of all videos stay in device memory."""
    return self._parts.layout(self._kind(first_pass)).parts == 1

  def bytes_per_video(self, first_pass: str | None = None) -> int:
    """Returns the bytes that are read to score a video."""
    return self._parts.row_bytes(self._kind(first_pass))

  def _kind(self, first_pass: str | None) -> str:
    return self._first_passes[first_pass] if first_pass else self._parts.exact

  def _held(self, kind: str) -> Any:
    return self._codebooks if kind == 'pq' else self._variables

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
    if first_pass not in self._first_passes:
      raise UserError(
        f'there is no first pass {first_pass!r}; choose '
        f'{" or ".join(self._first_passes)}, or none'
      )
    needed = f'float16+{first_pass}'
    if self._store.manifest.tokens != needed:
      raise UserError(
        f'the index {self._store.directory} has '
        f'{self._store.manifest.tokens} tokens; a first pass in {first_pass} '
        f'needs both: make the index with --tokens={needed}'
      )

  def _best(
    self,
    queries: Float[np.ndarray, 'n q'],
    k: int,
    kind: str,
    allowed: Bool[np.ndarray, ' rows'] | None = None,
  ) -> Best:
    """Returns scores and rows of the best k of the allowed rows by a kind of
    tokens."""
    program = self._program(kind, self._parts.layout(kind).block, k)
    chunks = [queries[c] for c in _chunks(len(queries))]
    held, sources, best = self._held(kind), [], []
    for chunk in chunks:
      size = _filled(len(chunk))
      sources.append(_padded(chunk, size))
      best.append(
        (
          np.full((size, k), -np.inf, np.float32),
          np.full((size, k), -1, np.int32),
        )
      )
    for stored, items in self._parts.load(kind):
      if allowed is not None:
        items = np.where((items >= 0) & allowed[items], items, -1)
      before = best[-1]
      for i, source in enumerate(sources):
        best[i] = program(held, source, stored, items, *best[i])
      # The next part is read while this one is searched, not earlier.
      jax.block_until_ready(before)
    cut = lambda j: np.concatenate(
      [np.asarray(b[j])[: len(c)] for b, c in zip(best, chunks, strict=True)]
    )
    scores, rows = cut(0), cut(1)
    self._check(scores, rows)
    return scores, rows

  def _exact(
    self, queries: Float[np.ndarray, 'n q'], rows: Int[np.ndarray, 'n m']
  ) -> Float[np.ndarray, 'n m']:
    """Returns the exact scores of some rows for each query."""
    kind = self._store.kind
    different, place = np.unique(np.maximum(rows, 0), return_inverse=True)
    size = self._parts.layout(kind).block * self._mesh.size
    size = min(size, _filled(len(different)))
    size = -(-size // self._mesh.size) * self._mesh.size
    padded = _padded(queries, _filled(len(queries)))
    scores = []
    for start in range(0, len(different), size):
      few = different[start : start + size]
      stored = {
        name: _padded(self._store.take(name, few), size) for name in READS[kind]
      }
      found = self._scores(kind)(self._held(kind), padded, stored)
      scores.append(np.asarray(found)[: len(queries), : len(few)])
    whole = np.concatenate(scores, axis=1)
    found = np.take_along_axis(whole, place.reshape(rows.shape), axis=1)
    self._check(found, rows)
    return np.where(rows < 0, -np.inf, found)

  def _check(
    self, scores: Float[np.ndarray, 'n m'], rows: Int[np.ndarray, 'n m']
  ) -> None:
    """Raises DamagedError if a score, and so a token, is not finite."""
    bad = (rows >= 0) & ~np.isfinite(scores)
    if bad.any():
      raise self._store.not_finite(int(rows[bad][0]), 'tokens')


def _best_videos(
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


def _is_float32(model: Model) -> bool:
  return model.dtype == jnp.float32


def _chunks(count: int) -> list[slice]:
  return [
    slice(start, start + QUERY_BATCH) for start in range(0, count, QUERY_BATCH)
  ]


def _filled(count: int) -> int:
  """Returns the next power of two: few shapes, few compilations."""
  return 1 << max(count - 1, 0).bit_length()


def _padded(x: np.ndarray, size: int) -> np.ndarray:
  """Returns the rows, followed by rows of zeros."""
  return np.pad(x, ((0, size - len(x)), *((0, 0),) * (x.ndim - 1)))
