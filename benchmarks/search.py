"""Time of a search in an index of made videos, and in other programs.

python benchmarks/search.py --videos=2000 --rivals=faiss_flat,faiss_ivf,lancedb

Prints one JSON line. For each way to search and batches of 1 and 64 queries:
queries per second, the median and the 99th percentile of a batch in
milliseconds; bytes of a video; recall@10 against the exact search. For our own
searches also the bytes of tokens read per second, as a share of the memory
bandwidth of a sum over a large array in the same run. `exact_as_stored` has no
copy of the tokens in the form that a CPU multiplies fastest. Queries are
encoded before, and no moments are computed: only the search is timed.
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
import search_rivals

from configs import common
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.encoding import Videos
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.program import READS
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.models.base import RetrievalModel
from dreamprvr_jax.trained.retriever import Retriever
from dreamprvr_jax.types import VideoEncoding

_BATCH = 128


class Made(RetrievalModel):
  """A plain best-token score, with the features as tokens."""

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


def _model(width: int) -> Made:
  """Returns a model of the default config with the given width."""
  config: Any = common.with_model(common.base_config(), 'ms_sl')
  keys = config.model.to_dict()
  del keys['name']
  return Made(
    **{**keys, 'width': width},
    num_clips=32,
    max_frames=128,
    max_words=30,
    dtype=jnp.float32,
  )


def made_videos(options: Any) -> Videos:
  """Returns videos whose tokens change slowly, as in real videos; about twenty
  videos share a subject."""

  def batches():
    rng = np.random.default_rng(0)
    noise = lambda *shape: rng.standard_normal(
      (_BATCH, *shape, options.width), np.float32
    )
    subjects = rng.standard_normal(
      (max(options.videos // 20, 1), 1, options.width), np.float32
    )
    for start in range(0, options.videos, _BATCH):
      about = noise(1) + subjects[rng.integers(0, len(subjects), _BATCH)]
      real = np.arange(start, start + _BATCH) < options.videos
      yield {
        'clip_features': about + noise(options.clips),
        'frame_features': about + noise(options.frames),
        'frame_mask': np.ones((_BATCH, options.frames), bool),
        'video_mask': real,
      }

  ids = [f'v{i}' for i in range(options.videos)]
  return Videos(ids, np.full(options.videos, 60.0), batches)


def bandwidth(mesh: Any) -> float:
  """Returns the bytes per second of the fastest of five sums over an array
  that is spread over all devices and larger than the caches."""
  count = 2**27 * mesh.size
  array = jax.device_put(jnp.ones(count, jnp.float32), meshes.by_row(mesh))
  _, seconds = harness.timed(lambda: jax.jit(jnp.sum)(array), 5)
  return 4 * count / min(seconds)


def made_queries(store: Store) -> np.ndarray:
  """Returns 64 queries, each similar to a frame of some video."""
  rng = np.random.default_rng(1)
  rows = rng.integers(0, len(store), 64)
  frames = rng.integers(0, store.manifest.frames, 64)
  near = store.tokens('frame', rows)[np.arange(64), frames]
  return near + rng.standard_normal(near.shape, np.float32)


def timings(
  search: Any, queries: np.ndarray, batch: int, repeats: int
) -> dict[str, float]:
  """Returns queries per second and percentiles of a batch."""
  seconds = []
  for number in range(repeats + 1):
    few = np.roll(queries, number, axis=0)[:batch]
    began = time.perf_counter()
    search(few, 10)
    seconds.append(time.perf_counter() - began)
  # The first search loads and compiles.
  seconds = np.asarray(seconds[1:])
  return {
    'queries_per_second': round(batch / float(np.median(seconds)), 1),
    'p50_ms': round(1000 * float(np.percentile(seconds, 50)), 2),
    'p99_ms': round(1000 * float(np.percentile(seconds, 99)), 2),
  }


def measured(
  search: Any, queries: np.ndarray, exact: np.ndarray, steps: int
) -> dict[str, Any]:
  """Returns the recall of a search and its speed in batches of 1 and 64."""
  found = search(queries, 10)
  shared = [len(set(a) & set(b)) for a, b in zip(exact, found, strict=True)]
  return {
    'recall_at_10': round(float(np.mean(shared)) / exact.shape[1], 4),
    **{f'batch_{n}': timings(search, queries, n, steps) for n in (1, 64)},
  }


def own_searches(
  index: Index, first_passes: list[str | None], options: Any, peak: float
) -> dict[str, Any]:
  """Returns figures of our searches in one index."""
  searcher, queries = index.searcher, made_queries(index.store)
  exact = searcher.search(queries, 10)[1]
  results = {}
  for first_pass in first_passes:
    search = lambda queries, k, how=first_pass: searcher.search(
      queries, k, first_pass=how
    )[1]
    size = searcher.bytes_per_video(first_pass)
    found = measured(search, queries, exact, options.steps)
    for batch in ('batch_1', 'batch_64'):
      read = size * options.videos / (found[batch]['p50_ms'] / 1000)
      found[batch]['share_of_bandwidth'] = round(read / peak, 3)
    results[f'{first_pass}_first' if first_pass else 'exact'] = {
      'bytes_per_video': size,
      'resident': searcher.resident(first_pass),
      **found,
    }
  return results


def main() -> None:
  """Writes indices, searches them, prints the result."""
  parser = harness.parser(__doc__, steps=30)
  parser.add_argument('--videos', type=int, default=2000, help='of the index')
  parser.add_argument('--clips', type=int, default=32, help='of a video')
  parser.add_argument('--frames', type=int, default=128, help='of a video')
  parser.add_argument('--width', type=int, default=384, help='of a token')
  parser.add_argument(
    '--tokens', default='float16+int8,float16+pq', help='as stored'
  )
  parser.add_argument(
    '--device_gib', type=float, help='for tokens; less makes them stream'
  )
  parser.add_argument(
    '--rivals', default='', help=f'of {", ".join(search_rivals.NAMES)}'
  )
  parser.add_argument(
    '--probes', type=int, default=32, help='lists that FAISS looks into'
  )
  parser.add_argument(
    '--tokens_found', type=int, default=1000, help='by FAISS, per branch'
  )
  options = parser.parse_args()
  mesh = meshes.make_mesh()
  retriever = Retriever('made', _model(options.width), {}, 'made', {})
  peak = bandwidth(mesh)
  results: dict[str, Any] = {
    'bandwidth_gb_per_second': round(peak / 1e9, 2),
  }
  with tempfile.TemporaryDirectory() as folder:
    for tokens in options.tokens.split(','):
      place = pathlib.Path(folder) / tokens
      began = time.perf_counter()
      writer.create(
        place, retriever, made_videos(options), tokens=tokens, mesh=mesh
      )
      results[f'{tokens}_write_seconds'] = round(time.perf_counter() - began, 1)
      room = options.device_gib and options.device_gib * 2**30
      index = Index.open(place, retriever, mesh=mesh, device_bytes=room)
      second = tokens.partition('+')[2]
      ways = [] if 'exact' in results else [None]
      ways += [second] if second else []
      results |= own_searches(index, ways, options, peak)
    store = index.store
    room = 1.1 * store.bytes_per_row(READS[store.kind]) * len(store) / mesh.size
    tight = Index.open(place, retriever, mesh=mesh, device_bytes=room)
    found = own_searches(tight, [None], options, peak)
    results['exact_as_stored'] = found['exact']
    for name in filter(None, options.rivals.split(',')):
      place = pathlib.Path(folder) / name
      search, facts = search_rivals.build(name, index, place, options)
      queries = made_queries(store)
      exact = index.searcher.search(queries, 10)[1]
      found = measured(search, queries, exact, options.steps)
      results[name] = facts | found
  harness.report(options, **results, **harness.memory_gib())


if __name__ == '__main__':
  sys.exit(main())
