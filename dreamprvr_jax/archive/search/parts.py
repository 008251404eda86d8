"""The rows of a store on the devices, whole or part by part."""

import dataclasses
import functools
import logging
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Float

from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.program import READS, ROWS, UNITS
from dreamprvr_jax.devices.memory import free_memory
from dreamprvr_jax.devices.pace import Pace
from dreamprvr_jax.host_memory import size_text
from dreamprvr_jax.numerics import NORM_FLOOR

_log = logging.getLogger(__name__)

# Queries scored at a time; fewer are padded to a power of two.
QUERY_BATCH = 64
# Numbers of the tokens that a CPU scores at a time: they fit in its caches.
_CPU_NUMBERS = 2**21
# Rows whose tokens are scaled to unit length at a time.
_UNIT_ROWS = 256


@dataclasses.dataclass(frozen=True)
class Layout:
  """How rows are divided.

  Attributes:
    block: Rows that a device scores at a time.
    rows: Rows of a part on a device, a multiple of `block`.
    parts: Number of parts; one if all rows stay in device memory.
  """

  block: int
  rows: int
  parts: int


class Parts:
  """Loads the rows of a store, and keeps those that fit in device memory.

  Attributes:
    has_units: Whether float32 tokens on a CPU, see `UNITS`, give exact scores.
  """

  def __init__(
    self,
    store: Store,
    mesh: Mesh,
    *,
    share: float,
    device_bytes: float | None,
    products: int | None,
    token_score: str,
  ):
    """Loads nothing yet.

    Args:
      store: The stored tokens.
      mesh: The device mesh; its devices share the rows.
      share: Share of the free device memory for tokens.
      device_bytes: Bytes of a device for tokens, instead of that share.
      products: Numbers in the largest (queries, rows, tokens) product; None to
        choose by the devices.
      token_score: 'cosine' or 'product' if float32 tokens, for cosines of unit
        length, give the same scores as stored ones; else 'other'.
    """
    self._store, self._mesh = store, mesh
    self._share, self._bytes = share, device_bytes
    self._products = products or Pace.of(mesh).products
    self._on_cpu = mesh.devices.flat[0].platform == 'cpu'
    self.has_units = token_score != 'other' and self._on_cpu
    self._scaled = token_score == 'cosine'
    self._kept: dict[str, list[Any]] = {}
    self.layout = functools.cache(self._plan)

  @functools.cached_property
  def exact(self) -> str:
    """The kind of tokens that exact scores are computed from.

    It is the stored kind, or `UNITS` on a CPU with enough memory for float32
    vectors."""
    kind = self._store.kind
    if not self.has_units:
      return kind
    rows = -(-len(self._store) // self._mesh.size)
    # Twice, because unit vectors are copied once on their way to the device.
    fits = 2 * rows * self.row_bytes(UNITS) <= self._free()
    return UNITS if fits else kind

  def row_bytes(self, kind: str) -> int:
    """Returns the bytes that are read to score a row."""
    if kind != UNITS:
      return self._store.bytes_per_row(READS[kind])
    manifest = self._store.manifest
    return 4 * (manifest.clips + manifest.frames) * manifest.width

  def load(self, kind: str) -> Iterator[Any]:
    """Yields the parts, (arrays, items), on the devices; `items` are the
    numbers of the rows, -1 where there is no video."""
    if kind in self._kept:
      yield from self._kept[kind]
      return
    layout = self.layout(kind)
    size = layout.rows * self._mesh.size
    for number in range(layout.parts):
      first = number * size
      items = np.full(size, -1, np.int32)
      here = self._store.items[first : first + size]
      items[: len(here)] = here
      names = READS.get(kind, ('clip_units', 'frame_units'))
      part = {name: self._place(name, first, size) for name in names}, items
      if layout.parts == 1:
        self._kept[kind] = [part]
      yield part

  def _place(self, name: str, first: int, size: int) -> Any:
    """Returns rows of an array, split over the devices."""
    branch, _, what = name.partition('_')

    def read(start: int, stop: int) -> np.ndarray:
      if what == UNITS:
        return self._unit_rows(branch, start, stop)
      return self._store.read(name, start, stop)

    def rows(index: Any) -> np.ndarray:
      start, stop, _ = index[0].indices(size)
      return read(first + start, first + stop)

    shape = read(0, 1).shape[1:]

    return jax.make_array_from_callback(
      (size, *shape), NamedSharding(self._mesh, ROWS), rows
    )

  def _unit_rows(
    self, branch: str, start: int, stop: int
  ) -> Float[np.ndarray, 'b s d']:
    """Returns consecutive rows of tokens, for cosines at length 1; zero tokens,
    and rows after the last, are zero."""
    manifest = self._store.manifest
    tokens = manifest.clips if branch == 'clip' else manifest.frames
    found = np.zeros((stop - start, tokens, manifest.width), np.float32)
    last = min(stop, len(self._store))
    for low in range(start, last, _UNIT_ROWS):
      high = min(low + _UNIT_ROWS, last)
      rows = np.arange(low, high)
      tokens = self._store.tokens(branch, rows)
      norms = np.sqrt(np.einsum('bsd,bsd->bs', tokens, tokens))
      self._store.check_finite(norms, rows, 'tokens')
      if self._scaled:
        # Only removed rows may have numbers that are not finite.
        with np.errstate(invalid='ignore'):
          tokens /= np.maximum(norms, NORM_FLOOR)[..., None]
      found[low - start : high - start] = tokens
    return found

  def _free(self) -> float:
    """Returns the bytes of a device for tokens."""
    return self._bytes or self._share * free_memory(self._mesh)

  def _plan(self, kind: str) -> Layout:
    """Returns the layout that fits in the free memory; logs several parts."""
    manifest = self._store.manifest
    share = -(-len(self._store) // self._mesh.size)
    tokens = manifest.clips + manifest.frames
    block = self._products // (QUERY_BATCH * tokens)
    if self._on_cpu:
      block = min(block, _CPU_NUMBERS // (tokens * manifest.width))
    block = min(max(block, 1), share)
    # Blocks of equal size, so that the last is not almost empty.
    block = -(-share // -(-share // block))
    rows = -(-share // block) * block
    row, free = self.row_bytes(kind), self._free()
    if kind == UNITS or rows * row <= free:
      return Layout(block, rows, 1)
    # Two parts at a time: one is searched while the next one is copied.
    fitting = max(int(free / 2 / row) // block, 1) * block
    parts = -(-share // fitting)
    _log.info(
      '%s: each device needs %s for tokens and has %s; each search '
      'reads them from the files in %d parts',
      self._store.directory,
      size_text(rows * row),
      size_text(free),
      parts,
    )
    return Layout(block, fitting, parts)
