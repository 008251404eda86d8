"""Exact search of an archive that is made in device memory.

python benchmarks/search_device.py --videos=100000 --tokens=int8

The search of an index, with random tokens that are made on the device: nothing
is written to a disk or copied from the host, which takes minutes for 100,000
videos. Prints one JSON line: the median and the 99th percentile of one query
and of a batch of 64, queries encoded before; the time of the compiled program
alone; bytes that are read to score a video, and the bytes that all of them
come to per second as a share of the bandwidth of a sum over a large array.
"""

import argparse
import functools
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
import search_archives
import search_rows
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Float
from processes import LeftOutError

from dreamprvr_jax.archive.index.layout import array_specs
from dreamprvr_jax.archive.index.manifest import Manifest, Segment
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.parts import Parts
from dreamprvr_jax.archive.search.program import ROWS
from dreamprvr_jax.archive.search.searcher import Searcher
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.types import dtype_of

# Rows that are random; the others repeat them.
_DIFFERENT = 1000
# Share of the free device memory for tokens; nothing else is on the device.
_SHARE = 0.8
# Size of a code, and so the greatest scale of a token of about unit length.
_CODES, _SCALES = 127, 0.01
# Times that the program is timed.
_CALLS = 20


class MadeStore(Store):
  """An index without files; its arrays are only on the devices."""

  def __init__(self, manifest: Manifest):
    self.directory = pathlib.Path('made')
    self.manifest = manifest
    self._specs = array_specs(manifest)
    self.ids = [f'v{i}' for i in range(manifest.num_rows)]
    self.items = np.arange(len(self.ids), dtype=np.int32)
    self.groups = self.items


class MadeParts(Parts):
  """Random rows, made on the devices that share them."""

  def _place(self, name: str, first: int, size: int) -> jax.Array:
    """Returns an array of rows; see `Parts`."""
    shape, dtype = self._store._specs[name]
    return _made(self._mesh, size, shape, dtype)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _made(
  mesh: Mesh, size: int, shape: tuple[int, ...], dtype: Any
) -> jax.Array:
  """Returns rows of an array with a type that tokens, codes, scales or masks
  have, each device's own."""
  rows = size // mesh.size

  def make():
    key = jax.random.fold_in(jax.random.key(0), jax.lax.axis_index(*ROWS))
    few = (min(rows, _DIFFERENT), *shape)
    if dtype == np.bool_:
      block = jnp.ones(few, dtype)
    elif dtype == np.int8:
      bits = jax.random.bits(key, few, jnp.uint8)
      block = jnp.maximum(bits.astype(dtype), -_CODES)
    elif len(shape) == 1:
      block = jax.random.uniform(key, few, dtype, 0, _SCALES)
    else:
      block = jax.random.normal(key, few, dtype)
    return harness.repeated(block, rows)

  return jax.shard_map(
    make, mesh=mesh, in_specs=(), out_specs=ROWS, check_vma=False
  )()


class MadeSearcher(Searcher):
  """Searches such a store as an accelerator does, on a CPU, too."""

  def __init__(self, store: MadeStore, dtype: str):
    retriever = search_archives.retriever_of_made(
      store.manifest.width, dtype_of(dtype)
    )
    mesh = meshes.make_mesh()
    super().__init__(retriever, store, mesh)
    self._parts = MadeParts(
      store,
      mesh,
      share=_SHARE,
      device_bytes=None,
      products=None,
      # A CPU would search float32 vectors that it computes once.
      token_score='other',
    )

  def program_seconds(
    self, queries: Float[np.ndarray, 'n d'], k: int
  ) -> list[float]:
    """Returns seconds of the compiled program, with all in device memory."""
    kind = self._parts.exact
    block = self._parts.layout(kind).block
    program = self._program(kind=kind, block=block, k=k)
    ((stored, items),) = self._parts.load(kind)
    best = (
      np.full((len(queries), k), -np.inf, np.float32),
      np.full((len(queries), k), -1, np.int32),
    )
    rows = jax.device_put(items, NamedSharding(self._mesh, ROWS))
    whole = meshes.replicate((queries, *best), self._mesh)
    return harness.timed(
      lambda: program(self._scoring, whole[0], stored, rows, *whole[1:]),
      _CALLS,
    )[1]


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Returns the options; those of the command line if none are given."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('--videos', type=int, default=100_000)
  add('--clips', type=int, default=32, help='clip tokens of a video')
  add('--frames', type=int, default=128, help='frame tokens of a video')
  add('--width', type=int, default=384, help='of a token')
  add('--tokens', default='float16', choices=('float16', 'int8'))
  add('--dtype', default='float32', help='of the model: or bfloat16')
  add('--seconds', type=float, default=3, help='of a timed batch size')
  add('--bandwidth', type=float, help='GB/s; measured if it is not given')
  return parser.parse_args(arguments)


def made_searcher(options: argparse.Namespace) -> MadeSearcher:
  """Returns the searcher of the options."""
  manifest = Manifest(
    checkpoint='made',
    digest='made',
    tokens=options.tokens,
    clips=options.clips,
    frames=options.frames,
    width=options.width,
    segments=(Segment('0' * 32, options.videos, options.videos),),
  )
  return MadeSearcher(MadeStore(manifest), options.dtype)


def figures(options: argparse.Namespace) -> dict[str, Any]:
  """Makes the archive, times searches, returns the results.

  Raises:
    LeftOutError: If the devices have too little memory for the tokens.
  """
  searcher = made_searcher(options)
  size = searcher.bytes_per_video()
  whole = size * options.videos
  if not searcher.resident():
    raise LeftOutError(
      f'{options.videos:,} videos have {whole / 1e9:.1f} GB of '
      f'{options.tokens} tokens, more than the devices have free'
    )
  rng = np.random.default_rng(0)
  most = search_rows.BATCHES[-1]
  queries = rng.standard_normal((most, options.width), np.float32)
  search = lambda few, k: searcher.search(few, k)[1]
  found: dict[str, Any] = {'bytes_per_video': size}
  began = time.perf_counter()
  search(queries[:1], search_archives.BEST)
  found['first_search_seconds'] = round(time.perf_counter() - began, 1)
  speed = options.bandwidth * 1e9 if options.bandwidth else 0
  for batch in search_rows.BATCHES:
    times = search_rows.timings(search, queries, batch, options.seconds)
    alone = searcher.program_seconds(queries[:batch], search_archives.BEST)
    times['program_ms'] = round(1000 * float(np.median(alone)), 3)
    found[f'batch_{batch}'] = times
  used = harness.memory_gib()
  speed = speed or harness.bandwidth()
  for batch in search_rows.BATCHES:
    times = found[f'batch_{batch}']
    share = whole / (times['p50_ms'] / 1000) / speed
    times['share_of_bandwidth'] = round(share, 3)
  found['bandwidth_gb_per_second'] = round(speed / 1e9, 2)
  return {**found, **used}


def main() -> None:
  """Prints the results."""
  options = parsed()
  harness.report(options, **figures(options))


if __name__ == '__main__':
  sys.exit(main())
