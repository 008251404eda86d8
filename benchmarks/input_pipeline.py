"""Videos per second of each pipeline, and its bottleneck.

python benchmarks/input_pipeline.py --videos=2000
python benchmarks/input_pipeline.py --root=DIR --collection=activitynet

Writes and prepares a corpus of random features under a temporary folder, or
reads the records of --root. Prints one JSON line: sizes, versions, device; for
host batches ('resident' and 'streaming', by the batches made ahead) and for
gathers on the device videos/s, videos per second of CPU time (one core's
worth) and the spread of batches; in the same run the speed of copies in
memory and of reading the records, from the disk and from the page cache. A
pipeline is as fast as copies if `written_gb_per_s` is near `copy_gb_per_s`.
"""

import harness  # isort: skip
import argparse
import itertools
import os
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any

import h5py
import jax
import numpy as np

from data_pipeline import iterators, simulated
from data_pipeline.batching import TrainPlan
from data_pipeline.corpus import Split
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from data_pipeline.paths import dataset_dir
from data_pipeline.prepare import prepare
from data_pipeline.resident import ResidentSource
from dreamprvr_jax.devices import meshes, resident
from dreamprvr_jax.types import dtype_of

_GB = 1e9
_CHUNK = 2**24


def options() -> argparse.Namespace:
  """Returns the parsed command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--root', default='', help='of a prepared corpus')
  parser.add_argument('--collection', default='made')
  parser.add_argument('--feature', default='i3d')
  for name, default, text in (
    ('videos', 2000, 'videos of the generated corpus'),
    ('frames', 128, 'frames of each'),
    ('words', 13, 'words of a caption, on average'),
    ('visual', 1024, 'width of the frame features'),
    ('text', 1024, 'width of the word features'),
    ('batch', 128, 'videos in a batch'),
    ('batches', 12, 'timed batches, after two to warm up'),
    ('workers', 0, 'threads that read records; 0 for one per core'),
  ):
    parser.add_argument(f'--{name}', type=int, default=default, help=text)
  parser.add_argument(
    '--prefetch', type=int, nargs='+', default=[0, 2, 4], help='made ahead'
  )
  parser.add_argument('--dtype', default='float32', help='on the device')
  parser.add_argument(
    '--pipelines',
    nargs='+',
    default=['resident', 'streaming', 'device'],
    help='which ones',
  )
  return parser.parse_args()


def write(chosen: argparse.Namespace, root: str) -> None:
  """Writes a corpus of the chosen sizes; two to five captions a video."""
  simulated.write_corpus(
    root,
    chosen.collection,
    feature=chosen.feature,
    train_videos=chosen.videos,
    val_videos=2,
    test_videos=0,
    frames=(chosen.frames, chosen.frames),
    captions_per_video=(2, 5),
    visual_width=chosen.visual,
    text_width=8,
  )
  # The sentences of the generated corpus are short, so words are replaced.
  (path,) = pathlib.Path(root, chosen.collection, 'TextData').glob('*.hdf5')
  with h5py.File(path) as file:
    names = list(file)
  rng = np.random.default_rng(0)
  with h5py.File(path, 'w') as file:
    for name in names:
      count = int(rng.integers(chosen.words // 2, 3 * chosen.words // 2 + 2))
      file[name] = rng.standard_normal((count, chosen.text), np.float32)


def clocked(draw: Callable[[], Any], repeats: int, videos: int) -> Any:
  """Returns videos/s, videos per CPU second and the spread of `draw`."""
  for _ in range(2):
    draw()
  seconds, before = [], resource.getrusage(resource.RUSAGE_SELF)
  for _ in range(repeats):
    began = time.perf_counter()
    draw()
    seconds.append(time.perf_counter() - began)
  after = resource.getrusage(resource.RUSAGE_SELF)
  cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  return {
    'videos_per_s': round(videos * repeats / sum(seconds), 1),
    'videos_per_cpu_s': round(videos * repeats / max(cpu, 1e-9), 1),
    **harness.spread('batch', seconds),
  }


def host(split: Split, chosen: argparse.Namespace, pipeline: str) -> Any:
  """Returns the figures of a host pipeline by the batches made ahead."""
  found = {}
  for prefetch in chosen.prefetch:
    split.source.use_threads(chosen.workers or os.cpu_count() or 1)
    with iterators.train_batches(
      split,
      batch_size=chosen.batch,
      seed=0,
      pipeline=pipeline,
      prefetch=prefetch,
    ) as batches:
      size = sum(value.nbytes for value in next(batches).values())
      figures = clocked(lambda b=batches: next(b), chosen.batches, chosen.batch)
    rate = figures['videos_per_s'] * size / chosen.batch
    figures['written_gb_per_s'] = round(rate / _GB, 2)
    found[f'prefetch_{prefetch}'] = figures
  return found


def device(split: Split, chosen: argparse.Namespace) -> Any:
  """Returns the figures of gathering batches on the device."""
  mesh = meshes.make_mesh()
  dtype = dtype_of(chosen.dtype)
  placed = resident.place(
    ResidentSource(split, dtype=dtype).arrays(),
    mesh,
    max_frames=split.options.max_frames,
    max_words=split.options.max_words,
    dtype=dtype,
  )
  plan = TrainPlan(
    split.caption_video, placed.num_videos, batch_size=chosen.batch, seed=0
  )
  gather = resident.compile_gather(
    mesh,
    batch_size=chosen.batch,
    steps_per_epoch=plan.steps_per_epoch,
    seed=0,
  )
  numbers = itertools.count()
  draw = lambda: jax.block_until_ready(
    gather(placed, np.int32(next(numbers)), plan.slots[0])
  )
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(draw()))
  figures = clocked(draw, chosen.batches, chosen.batch)
  rate = figures['videos_per_s'] * size / chosen.batch
  return {**figures, 'written_gb_per_s': round(rate / _GB, 2)}


def copy_speed() -> dict[str, float]:
  """Returns GB/s of one thread's copies, to used and to fresh memory."""
  source = np.ones(2**26, np.float32)
  target = np.empty_like(source)
  used, fresh = [], []
  for _ in range(5):
    began = time.perf_counter()
    np.copyto(target, source)
    used.append(time.perf_counter() - began)
    began = time.perf_counter()
    source.copy()
    fresh.append(time.perf_counter() - began)
  return {
    'copy_gb_per_s': round(source.nbytes / float(np.median(used[1:])) / _GB, 2),
    'copy_to_fresh_gb_per_s': round(
      source.nbytes / float(np.median(fresh[1:])) / _GB, 2
    ),
  }


def read_speed(folder: pathlib.Path) -> dict[str, float]:
  """Returns GB/s of reading the records, from disk and from page cache."""
  found = {}
  for name in ('disk_read_gb_per_s', 'cached_read_gb_per_s'):
    size, began = 0, time.perf_counter()
    for path in sorted(folder.glob('*.tfrecord*')):
      with path.open('rb', buffering=0) as file:
        if name.startswith('disk') and hasattr(os, 'posix_fadvise'):
          os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while data := file.read(_CHUNK):
          size += len(data)
    found[name] = round(size / (time.perf_counter() - began) / _GB, 2)
  return found


def main() -> None:
  """Makes the corpus, measures, prints the result."""
  chosen = options()
  with tempfile.TemporaryDirectory() as temporary:
    if not chosen.root:
      write(chosen, temporary)
    data = DataOptions(
      root=chosen.root or temporary,
      collection=chosen.collection,
      feature=chosen.feature,
      num_workers=chosen.workers,
    )
    prepare(data, progress=False)
    corpus = open_corpus(data)
    split = corpus.splits['train']
    found: dict[str, Any] = {'split': corpus.describe()[0]}
    found['speed'] = {
      **copy_speed(),
      **read_speed(pathlib.Path(dataset_dir(data))),
    }
    found['results'] = {
      pipeline: device(split, chosen)
      if pipeline == 'device'
      else host(split, chosen, pipeline)
      for pipeline in chosen.pipelines
    }
    harness.report(chosen, cores=os.cpu_count(), **found)


if __name__ == '__main__':
  main()
