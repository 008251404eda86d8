"""The best videos of an index for some queries, block by block."""

import dataclasses
import functools
import logging
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Bool, Float, Int

from dreamprvr_jax import parallel
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.evaluation.memory import free_memory
from dreamprvr_jax.evaluation.pace import Pace
from dreamprvr_jax.interop.retriever import Retriever
from dreamprvr_jax.search.program import (
  READS,
  ROWS,
  best_of,
  compile_scores,
  compile_search,
)
from dreamprvr_jax.search.store import Store

_log = logging.getLogger(__name__)

# Queries scored at a time; fewer are filled up to a power of two.
QUERY_BATCH = 64
# Numbers in the tokens that a CPU scores at a time: what its caches hold.
_CPU_NUMBERS = 2**21
_GIB = 2**30

Best = tuple[Float[np.ndarray, 'n k'], Int[np.ndarray, 'n k']]


@dataclasses.dataclass(frozen=True)
class _Layout:
  """How rows are cut.

  Attributes:
    block: Rows scored at a time on a device.
    rows: Rows of a part on a device, a multiple of `block`.
    parts: Parts, one if all rows stay in device memory.
  """

  block: int
  rows: int
  parts: int


class Searcher:
  """Searches the rows of a store; what was loaded or compiled is kept."""

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
      retriever: What the store is of.
      store: The stored tokens.
      mesh: The device mesh; its devices share the rows.
      memory_share: Of the free device memory, for tokens; if that does not
        do, they are streamed from the files, part by part, for each search.
      device_bytes: Bytes of a device for tokens, in place of that share.
      products: Numbers in the largest (queries, rows, tokens) product; None
        for what suits the devices.
    """
    if not 0 < memory_share <= 1:
      raise UserError(
        f'memory_share is {memory_share}; give a share of the free device '
        'memory, above 0 and at most 1'
      )
    self._retriever, self._store, self._mesh = retriever, store, mesh
    self._share, self._bytes = memory_share, device_bytes
    self._products = products or Pace.of(mesh).products
    self._variables = parallel.replicate(retriever.variables, mesh)
    self._parts: dict[str, list[Any]] = {}
    model = retriever.model
    self._encode = jax.jit(
      lambda variables, words, mask: model.apply(
        variables, words, mask, method='encode_query'
      ),
      in_shardings=parallel.replicated(mesh),
      out_shardings=parallel.replicated(mesh),
    )
    self._program = functools.cache(
      lambda kind, block, k: compile_search(
        model, mesh, kind=kind, block=block, k=k
      )
    )
    self._scores = functools.cache(
      lambda kind: compile_scores(model, mesh, kind=kind)
    )
    self._layout = functools.cache(self._plan)

  @property
  def kind(self) -> str:
    """What exact scores are computed from: 'float16' or 'int8'."""
    return 'float16' if self._store.has('clip_tokens') else 'int8'

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
    first_pass: str | None = None,
    rescore: int = 4,
  ) -> Best:
    """Returns the scores and rows (n, k) of the best videos, by falling
    score, equals by rising row.

    Args:
      queries: As `encode` gives them.
      k: How many are found; all videos if there are fewer.
      first_pass: None to score all videos exactly; 'int8' to do so only with
        the best `rescore` * k by int8 codes.
      rescore: See `first_pass`.

    Raises:
      UserError: If the index is empty, or has no such first pass.
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
    k = min(k, count)
    if first_pass is None:
      return self._best(queries, k, self.kind)
    self._check_first_pass(first_pass)
    _, rows = self._best(queries, min(rescore * k, count), 'codes')
    scores = [self._exact(queries[c], rows[c]) for c in _chunks(len(queries))]
    return best_of(np.concatenate(scores), rows, k)

  def recall(
    self,
    queries: Float[np.ndarray, 'n q'],
    k: int,
    *,
    first_pass: str,
    rescore: int = 4,
  ) -> float:
    """Returns the share of the exact best k that a first pass finds."""
    _, exact = self.search(queries, k)
    _, found = self.search(queries, k, first_pass=first_pass, rescore=rescore)
    hits = [
      len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)
    ]
    return float(np.mean(hits) / exact.shape[1])

  def resident(self, first_pass: str | None = None) -> bool:
    """Returns whether the tokens of all videos stay in device memory."""
    return self._layout('codes' if first_pass else self.kind).parts == 1

  def _check_first_pass(self, first_pass: str) -> None:
    model = type(self._retriever.model).__name__
    if first_pass != 'int8':
      raise UserError(
        f'there is no first pass {first_pass!r}; choose int8, or none'
      )
    if not self._retriever.is_plain:
      raise UserError(
        f'a first pass in int8 needs a score that is the best cosine with a '
        f'token, that of {model} is not; search without --first_pass'
      )
    if self._store.manifest.tokens != 'float16+int8':
      raise UserError(
        f'the index {self._store.directory} holds '
        f'{self._store.manifest.tokens} tokens; a first pass in int8 needs '
        'both: make the index with --tokens=float16+int8'
      )

  def _best(self, queries: Float[np.ndarray, 'n q'], k: int, kind: str) -> Best:
    """Returns scores and rows of the best k by what is taken as tokens."""
    layout = self._layout(kind)
    program = self._program(kind, layout.block, k)
    chunks = [queries[c] for c in _chunks(len(queries))]
    sources, best = [], []
    for chunk in chunks:
      size = _filled(len(chunk))
      sources.append(_padded(chunk, size))
      best.append(
        (
          np.full((size, k), -np.inf, np.float32),
          np.full((size, k), -1, np.int32),
        )
      )
    for stored, items in self._load(kind):
      before = best[-1]
      for i, source in enumerate(sources):
        best[i] = program(self._variables, source, stored, items, *best[i])
      # The next part is read while this one is searched, not earlier.
      jax.block_until_ready(before)
    cut = lambda j: np.concatenate(
      [np.asarray(b[j])[: len(c)] for b, c in zip(best, chunks, strict=True)]
    )
    return cut(0), cut(1)

  def _exact(
    self, queries: Float[np.ndarray, 'n q'], rows: Int[np.ndarray, 'n m']
  ) -> Float[np.ndarray, 'n m']:
    """Returns the exact scores of some rows for each query."""
    different, place = np.unique(rows, return_inverse=True)
    size = self._layout(self.kind).block * self._mesh.size
    size = min(size, _filled(len(different)))
    size = -(-size // self._mesh.size) * self._mesh.size
    padded = _padded(queries, _filled(len(queries)))
    scores = []
    for start in range(0, len(different), size):
      few = different[start : start + size]
      stored = {
        name: _padded(self._store.take(name, few), size)
        for name in READS[self.kind]
      }
      found = self._scores(self.kind)(self._variables, padded, stored)
      scores.append(np.asarray(found)[: len(queries), : len(few)])
    whole = np.concatenate(scores, axis=1)
    return np.take_along_axis(whole, place.reshape(rows.shape), axis=1)

  def _plan(self, kind: str) -> _Layout:
    """Returns the layout that the free memory allows, and logs it."""
    manifest = self._store.manifest
    share = -(-len(self._store) // self._mesh.size)
    tokens = manifest.clips + manifest.frames
    block = self._products // (QUERY_BATCH * tokens)
    if self._mesh.devices.flat[0].platform == 'cpu':
      block = min(block, _CPU_NUMBERS // (tokens * manifest.width))
    block = min(max(block, 1), share)
    # Evenly: else the last block might be almost empty.
    block = -(-share // -(-share // block))
    rows = -(-share // block) * block
    row = self._store.bytes_per_row(READS[kind])
    free = self._bytes or self._share * free_memory(self._mesh)
    if rows * row <= free:
      return _Layout(block, rows, 1)
    # Of two parts, one of which is on its way.
    fitting = max(int(free / 2 / row) // block, 1) * block
    parts = -(-share // fitting)
    _log.info(
      '%s: a device takes %.2f GiB of tokens, %.2f GiB are for them: they are '
      'read from the files in %d parts for each search',
      self._store.directory,
      rows * row / _GIB,
      free / _GIB,
      parts,
    )
    return _Layout(block, fitting, parts)

  def _load(self, kind: str) -> Iterator[Any]:
    """Yields the parts, (stored arrays, items), on the devices."""
    if kind in self._parts:
      yield from self._parts[kind]
      return
    layout = self._layout(kind)
    size = layout.rows * self._mesh.size
    sharding = NamedSharding(self._mesh, ROWS)
    for number in range(layout.parts):
      first = number * size

      def place(name: str, first: int = first) -> Any:
        shape = self._store.read(name, 0, 1).shape[1:]

        def rows(index: Any) -> np.ndarray:
          start, stop, _ = index[0].indices(size)
          return self._store.read(name, first + start, first + stop)

        return jax.make_array_from_callback((size, *shape), sharding, rows)

      items = np.full(size, -1, np.int32)
      here = self._store.items[first : first + size]
      items[: len(here)] = here
      part = {name: place(name) for name in READS[kind]}, items
      if layout.parts == 1:
        self._parts[kind] = [part]
      yield part


def _chunks(count: int) -> list[slice]:
  return [
    slice(start, start + QUERY_BATCH) for start in range(0, count, QUERY_BATCH)
  ]


def _filled(count: int) -> int:
  """Returns the next power of two: few shapes, few compilations."""
  return 1 << max(count - 1, 0).bit_length()


def _padded(x: np.ndarray, size: int) -> np.ndarray:
  """Returns the rows with zeros behind them."""
  return np.pad(x, ((0, size - len(x)), *((0, 0),) * (x.ndim - 1)))
