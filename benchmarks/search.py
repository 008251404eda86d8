"""Time of a search in an index of made videos.

python benchmarks/search.py --videos=4000 --tokens=float16+int8

Prints one JSON line: seconds to write the index and bytes of a video; for
batches of 1 and 64 queries, exact and with a first pass in int8, queries per
second, the median and the 99th percentile of a batch in milliseconds, and the
bytes of tokens read per second as a share of the memory bandwidth that a sum
over a large array had in the same run; recall of the first pass
against the exact search. The encoded queries are given, moments are not asked
for: what is timed is the search.
"""

import pathlib
import sys
import tempfile
import time
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np

from dreamprvr_jax import parallel
from dreamprvr_jax.interop.retriever import Retriever
from dreamprvr_jax.models.base import RetrievalModel
from dreamprvr_jax.search import writer
from dreamprvr_jax.search.index import Index
from dreamprvr_jax.search.program import READS
from dreamprvr_jax.search.store import Store
from dreamprvr_jax.types import VideoEncoding

_BATCH = 128


class Made(RetrievalModel):
  """A plain best-token score on features that are tokens already."""

  def encode_video(
    self,
    clip_features,
    frame_features,
    frame_mask,
    clip_sizes=None,
    *,
    train=False,
  ):
    """Returns the features as they are."""
    return VideoEncoding(clip_features, frame_features, frame_mask)


def made_videos(options: Any) -> writer.Videos:
  """Returns videos whose tokens change slowly, as those of real ones do."""

  def batches():
    rng = np.random.default_rng(0)
    noise = lambda *shape: rng.standard_normal(
      (_BATCH, *shape, options.width), np.float32
    )
    for start in range(0, options.videos, _BATCH):
      about = noise(1)
      real = np.arange(start, start + _BATCH) < options.videos
      yield {
        'clip_features': about + noise(options.clips),
        'frame_features': about + noise(options.frames),
        'frame_mask': np.ones((_BATCH, options.frames), bool),
        'video_mask': real,
      }

  ids = [f'v{i}' for i in range(options.videos)]
  return writer.Videos(ids, np.full(options.videos, 60.0), batches)


def bandwidth(mesh: Any) -> float:
  """Returns the bytes per second of the fastest of five sums over an array
  that all devices share and no cache holds."""
  count = 2**27 * mesh.size
  array = jax.device_put(jnp.ones(count, jnp.float32), parallel.by_row(mesh))
  _, seconds = harness.timed(lambda: jax.jit(jnp.sum)(array), 5)
  return 4 * count / min(seconds)


def timings(
  searcher: Any, queries: np.ndarray, batch: int, repeats: int, **how: Any
) -> dict[str, float]:
  """Returns queries per second and percentiles of a batch."""
  seconds = []
  for number in range(repeats + 1):
    few = np.roll(queries, number, axis=0)[:batch]
    began = time.perf_counter()
    searcher.search(few, 10, **how)
    seconds.append(time.perf_counter() - began)
  # The first one loads and compiles.
  seconds = np.asarray(seconds[1:])
  return {
    'queries_per_second': round(batch / float(np.median(seconds)), 1),
    'p50_ms': round(1000 * float(np.percentile(seconds, 50)), 2),
    'p99_ms': round(1000 * float(np.percentile(seconds, 99)), 2),
  }


def main() -> None:
  """Writes an index, searches it, prints the result."""
  parser = harness.parser(__doc__, steps=30)
  parser.add_argument('--videos', type=int, default=4000, help='of the index')
  parser.add_argument('--clips', type=int, default=32, help='of a video')
  parser.add_argument('--frames', type=int, default=128, help='of a video')
  parser.add_argument('--width', type=int, default=384, help='of a token')
  parser.add_argument('--tokens', default='float16+int8', help='as stored')
  parser.add_argument(
    '--device_gib', type=float, help='for tokens; less makes them stream'
  )
  options = parser.parse_args()
  mesh = parallel.make_mesh()
  retriever = Retriever('made', Made(width=options.width), {}, 'made', {})
  room = options.device_gib and options.device_gib * 2**30
  peak = bandwidth(mesh)
  results: dict[str, Any] = {
    'bandwidth_gb_per_second': round(peak / 1e9, 2),
  }
  with tempfile.TemporaryDirectory() as folder:
    place = pathlib.Path(folder) / 'index'
    began = time.perf_counter()
    writer.create(
      place, retriever, made_videos(options), tokens=options.tokens, mesh=mesh
    )
    results['write_seconds'] = round(time.perf_counter() - began, 2)
    store = Store(place)
    index = Index.open(place, retriever, mesh=mesh, device_bytes=room)
    searcher = index.searcher
    rng = np.random.default_rng(1)
    queries = rng.standard_normal((64, options.width), np.float32)
    ways: dict[str, tuple[str, dict[str, Any]]] = {'exact': (searcher.kind, {})}
    if options.tokens == 'float16+int8':
      ways['int8_first'] = ('codes', {'first_pass': 'int8'})
      results['int8_recall_at_10'] = searcher.recall(
        queries, 10, first_pass='int8'
      )
    for name, (kind, how) in ways.items():
      size = store.bytes_per_row(READS[kind])
      results[f'{name}_bytes_per_video'] = size
      results[f'{name}_resident'] = searcher.resident(how.get('first_pass'))
      for batch in (1, 64):
        found = timings(searcher, queries, batch, options.steps, **how)
        read = size * options.videos / (found['p50_ms'] / 1000)
        found['share_of_bandwidth'] = round(read / peak, 3)
        results[f'{name}_batch_{batch}'] = found
  harness.report(options, **results, **harness.memory_gib())


if __name__ == '__main__':
  sys.exit(main())
