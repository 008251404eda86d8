"""Scores of queries with the rows of an index, on the devices."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.archive.index.layout import BRANCHES
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.parts import QUERY_BATCH, Parts
from dreamprvr_jax.archive.search.program import (
  FIRST_PASSES,
  READS,
  UNITS,
  compile_queries,
  compile_scores,
  compile_search,
)
from dreamprvr_jax.archive.search.threads import THREADS, spread
from dreamprvr_jax.archive.search.timelines import unit
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.numerics import NORM_FLOOR
from dreamprvr_jax.trained.retriever import Retriever

Best = tuple[Float[np.ndarray, 'n k'], Int[np.ndarray, 'n k']]


class RowScores:
  """Scores the rows of a store; keeps loaded arrays and compiled programs."""

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
    self.first_passes = FIRST_PASSES.get(score, FIRST_PASSES['cosine'])
    self._parts = Parts(
      store,
      mesh,
      share=memory_share,
      device_bytes=device_bytes,
      products=products,
      token_score=score if _is_float32(retriever.model) else 'other',
    )
    model = retriever.model
    self._encode = compile_queries(model, mesh)
    self._program = functools.partial(compile_search, model, mesh)
    self._scores = functools.partial(compile_scores, model, mesh)

  @functools.cached_property
  def _variables(self) -> Any:
    return meshes.replicate(self._retriever.variables, self._mesh)

  @property
  def _scoring(self) -> Any:
    """The variables that scores need."""
    return {} if self._retriever.is_plain else self._variables

  def encode(
    self, words: Float[np.ndarray, 'n l e'], mask: Bool[np.ndarray, 'n l']
  ) -> Float[np.ndarray, 'n q']:
    """Returns the encoded queries."""
    one = self._retriever.encode_one
    if one is not None and len(words) == self._mesh.size == 1:
      return one(words, mask)
    found = []
    for rows in slices(len(words)):
      size = filled(len(words[rows]))
      encoded = self._encode(
        self._variables, _padded(words[rows], size), _padded(mask[rows], size)
      )
      found.append(np.asarray(encoded)[: len(words[rows])])
    return np.concatenate(found)

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
      for chunk in slices(len(queries)):
        few = queries[chunk]
        source = _padded(few, filled(len(few)))
        values = self._scores(kind=kind)(self._scoring, source, stored)
        found.append(np.asarray(values)[: len(few), :count])
      whole = np.concatenate(found)
      self._check(whole, np.broadcast_to(rows, whole.shape))
      return whole

    return scores

  def resident(self, first_pass: str | None = None) -> bool:
    """Returns whether the tokens of all videos stay in device memory."""
    return self._parts.layout(self._kind(first_pass)).parts == 1

  def bytes_per_video(self, first_pass: str | None = None) -> int:
    """Returns the bytes that are read to score a video."""
    return self._parts.row_bytes(self._kind(first_pass))

  def _kind(self, first_pass: str | None) -> str:
    return self.first_passes[first_pass] if first_pass else self._parts.exact

  def best(
    self,
    queries: Float[np.ndarray, 'n q'],
    k: int,
    kind: str,
    allowed: Bool[np.ndarray, ' rows'] | None = None,
  ) -> Best:
    """Returns scores and rows of the best k of the allowed rows by a kind of
    tokens."""
    program = self._program(
      kind=kind, block=self._parts.layout(kind).block, k=k
    )
    chunks = [queries[c] for c in slices(len(queries))]
    sources, best = [], []
    for chunk in chunks:
      size = filled(len(chunk))
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
        best[i] = program(self._scoring, source, stored, items, *best[i])
      # The next part is read while this one is searched, not earlier.
      jax.block_until_ready(before)
    cut = lambda j: np.concatenate(
      [np.asarray(b[j])[: len(c)] for b, c in zip(best, chunks, strict=True)]
    )
    scores, rows = cut(0), cut(1)
    self._check(scores, rows)
    return scores, rows

  def exact(
    self, queries: Float[np.ndarray, 'n q'], rows: Int[np.ndarray, 'n m']
  ) -> Float[np.ndarray, 'n m']:
    """Returns the exact scores of some rows for each query."""
    if self._parts.has_units:
      return self._exact_on_host(queries, rows)
    kind = self._store.kind
    different, place = np.unique(np.maximum(rows, 0), return_inverse=True)
    size = self._parts.layout(kind).block * self._mesh.size
    size = min(size, filled(len(different)))
    size = -(-size // self._mesh.size) * self._mesh.size
    padded = _padded(queries, filled(len(queries)))
    scores = []
    for start in range(0, len(different), size):
      few = different[start : start + size]
      stored = {
        name: _padded(self._store.take(name, few), size) for name in READS[kind]
      }
      found = self._scores(kind=kind)(self._scoring, padded, stored)
      scores.append(np.asarray(found)[: len(queries), : len(few)])
    whole = np.concatenate(scores, axis=1)
    found = np.take_along_axis(whole, place.reshape(rows.shape), axis=1)
    self._check(found, rows)
    return np.where(rows < 0, -np.inf, found)

  def _exact_on_host(
    self, queries: Float[np.ndarray, 'n q'], rows: Int[np.ndarray, 'n m']
  ) -> Float[np.ndarray, 'n m']:
    """Does what `exact` does, with NumPy: for few rows, which are read from the
    files, it is several times faster on a CPU than a compiled program, which
    converts float16 slowly."""
    different, place = np.unique(np.maximum(rows, 0), return_inverse=True)
    queries = unit(queries)
    size = -(-len(different) // THREADS)
    size = min(size, self._parts.layout(UNITS).block)

    def score(start: int) -> Float[np.ndarray, 'n b']:
      few = different[start : start + size]
      model = self._retriever.model
      weights = model.clip_weight, model.frame_weight
      found = np.zeros((len(queries), len(few)), np.float32)
      for branch, weight in zip(BRANCHES, weights, strict=True):
        if weight:
          found += weight * self._best_on_host(branch, queries, few)
      return found

    scores = spread(score, range(0, len(different), size))
    whole = np.concatenate(scores, axis=1)
    found = np.take_along_axis(whole, place.reshape(rows.shape), axis=1)
    self._check(found, rows)
    return np.where(rows < 0, -np.inf, found)

  def _best_on_host(
    self,
    branch: str,
    queries: Float[np.ndarray, 'n d'],
    rows: Int[np.ndarray, ' b'],
  ) -> Float[np.ndarray, 'n b']:
    """Returns the best cosine or product of unit queries with the tokens of
    some rows."""
    if self._store.kind == 'float16':
      stored = self._store.take(f'{branch}_tokens', rows)
      tokens = np.asarray(_to_float32(stored))
    else:
      tokens = self._store.tokens(branch, rows)
    found = tokens.reshape(-1, tokens.shape[-1]) @ queries.T
    found = found.reshape(*tokens.shape[:2], -1)
    if self._retriever.model.token_score == 'cosine':
      norms = np.sqrt(np.einsum('bsd,bsd->bs', tokens, tokens))
      found /= np.maximum(norms, NORM_FLOOR)[..., None]
    return found.max(axis=1).T

  def _check(
    self, scores: Float[np.ndarray, 'n m'], rows: Int[np.ndarray, 'n m']
  ) -> None:
    """Raises DamagedError if a score, and so a token, is not finite."""
    bad = (rows >= 0) & ~np.isfinite(scores)
    if bad.any():
      raise self._store.not_finite(int(rows[bad][0]), 'tokens')


@jax.jit
def _to_float32(x: Float[Array, '*']) -> Float[Array, '*']:
  """Returns numbers as float32, several times faster than NumPy does."""
  return x.astype(jnp.float32)


def _is_float32(model: Model) -> bool:
  return model.dtype == jnp.float32


def slices(count: int) -> list[slice]:
  return [
    slice(start, start + QUERY_BATCH) for start in range(0, count, QUERY_BATCH)
  ]


def filled(count: int) -> int:
  """Returns the next power of two: few shapes, few compilations."""
  return 1 << max(count - 1, 0).bit_length()


def _padded(x: np.ndarray, size: int) -> np.ndarray:
  """Returns the rows, followed by rows of zeros."""
  return np.pad(x, ((0, size - len(x)), *((0, 0),) * (x.ndim - 1)))
