"""Preparation: the official release to sharded records, once.

Finished shards are never lost: a shard gets its name only when it is whole, and
a later run with the same sources and options goes on behind it. The manifest is
written last, so records with a manifest are complete.
"""

import concurrent.futures
import contextlib
import errno
import hashlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import tqdm
from etils import epath

from data_pipeline import manifest as manifests
from data_pipeline.corpus import Corpus, Split, open_release_corpus
from data_pipeline.dataset import (
  Serializer,
  dataset_dir,
  dataset_name,
  write_metadata,
)
from data_pipeline.errors import DataError
from data_pipeline.index_file import load_arrays, save_arrays
from data_pipeline.manifest import Manifest
from data_pipeline.options import DataOptions
from data_pipeline.prepared import save_index
from data_pipeline.records import write_atomically, write_shard
from data_pipeline.shards import Shard, is_finished, plan, require_space
from dreamprvr_jax import folders

_log = logging.getLogger(__name__)

__all__ = ['Manifest', 'prepare']


def prepare(options: DataOptions, progress: bool = True) -> Manifest:
  """Writes the records of a release, or goes on where a run was stopped.

  Where another process of this disk prepares them, this one waits for it and
  then has nothing to do. (A bucket has no locks.)

  Args:
    options: what to prepare, and how.
    progress: show a progress bar on a terminal.

  Returns:
    The manifest. If it was valid already nothing is read or written.

  Raises:
    DataError: if the release is not whole or an item is bad.
  """
  reason = manifests.problem(options)
  if reason is None:
    _log.info('the records in %s are up to date', dataset_dir(options))
    return manifests.load(options)
  # What is wrong with the release is said before any folder is made.
  corpus = open_release_corpus(options)
  sources = manifests.fingerprints(options)
  with _held(dataset_dir(options)):
    # Another process may have prepared them meanwhile.
    reason = manifests.problem(options)
    if reason is None:
      return manifests.load(options)
    _log.info('preparing: %s', reason)
    return _prepare(corpus, sources, progress)


def _prepare(
  corpus: Corpus, sources: dict[str, dict[str, Any]], progress: bool
) -> Manifest:
  options = corpus.options
  folder = dataset_dir(options)
  _start_or_resume(folder, corpus, sources)
  shards = plan(corpus)
  _remove_partial_files(folder)
  # Hashing whole files takes as long as reading them: done alongside.
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    stop = threading.Event()
    hashes = pool.submit(manifests.hash_sources, options, stop)
    try:
      _write_all(corpus, shards, progress)
    except BaseException:
      stop.set()
      raise
    for name, digest in hashes.result().items():
      sources[name]['sha256'] = digest
  if manifests.fingerprints(options) != {
    name: {k: v for k, v in facts.items() if k != 'sha256'}
    for name, facts in sources.items()
  }:
    raise DataError(
      f'the release in {options.folder} changed while it was prepared; '
      'prepare it again'
    )
  return _finish(corpus, shards, sources)


@contextlib.contextmanager
def _held(folder: epath.Path) -> Iterator[None]:
  """Makes the folder of the records and holds it."""
  with contextlib.ExitStack() as stack:
    try:
      folder.mkdir(parents=True, exist_ok=True)
      if '://' not in str(folder):
        stack.enter_context(folders.held(folder, 'prepared folder', wait=True))
    except OSError as error:
      if error.errno == errno.EROFS:
        # One kind of error for every folder that cannot be written.
        raise PermissionError(*error.args) from error
      raise
    yield


def _start_or_resume(
  folder: epath.Path, corpus: Corpus, sources: dict[str, Any]
) -> None:
  """Keeps what an earlier run with this very plan left, or clears it."""
  splits = corpus.splits.values()
  plan = {
    'format': manifests.FORMAT,
    'options': manifests.dependent_options(corpus.options),
    'shard_videos': corpus.options.shard_videos,
    'sources': sources,
    'items': [[s.name, s.video_ids, s.caption_ids] for s in splits],
  }
  text = json.dumps(plan, sort_keys=True)
  key = hashlib.sha256(text.encode()).hexdigest()
  plan_file = folder / 'plan.txt'
  # The manifest goes first: no moment in which it vouches for other shards.
  manifests.path(corpus.options).unlink(missing_ok=True)
  if plan_file.exists() and plan_file.read_text(encoding='utf-8') == key:
    _log.info('keeping the finished shards in %s', folder)
  else:
    plan_file.unlink(missing_ok=True)
    # Files of our names alone: what else is there is somebody's.
    name = dataset_name(corpus.options)
    for pattern in (f'pieces/{name}-*.npz', f'{name}-*.tfrecord-*'):
      for path in folder.glob(pattern):
        path.unlink()
    write_atomically(plan_file, key.encode())
  (folder / 'pieces').mkdir(exist_ok=True)


def _remove_partial_files(folder: epath.Path) -> None:
  for place in (folder, folder / 'pieces'):
    for path in place.glob('.tmp-*'):
      path.unlink(missing_ok=True)


def _write_one(split: Split, serializer: Serializer, shard: Shard) -> int:
  """Writes one shard; returns its number of videos."""
  examples = (serializer(video) for video in range(shard.start, shard.stop))
  result: dict[str, Any] = {}

  def write(file):
    result['written'] = write_shard(file, examples)
    # The size in the piece vouches for the content only if that is on disk.
    file.flush()
    if hasattr(file, 'fileno'):
      os.fsync(file.fileno())

  write_atomically(shard.path, None, write)
  offsets, size, crc = result['written']
  piece = {'offsets': offsets, 'facts': np.array([size, crc], np.int64)}
  if split.options.merged:
    piece['clip_plan'] = split.source.plans(range(shard.start, shard.stop))
  save_arrays(shard.piece, piece)
  return shard.stop - shard.start


# What a worker process keeps between its shards.
_worker: dict[str, tuple[Split, Serializer]] = {}


def _die_with_parent() -> None:
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
    # Nothing to clean up: an unfinished shard has no name yet.
    os._exit(1)


def _start_worker(splits: list[Split]) -> None:
  # Ctrl-C comes to all processes of a terminal: the parent answers it, and
  # lets shards in progress be finished.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_die_with_parent, daemon=True).start()
  for split in splits:
    # A worker is one process and one thread.
    split.source.use_threads(1)
    _worker[split.name] = (split, Serializer(split))


def _work(shard: Shard) -> int:
  return _write_one(*_worker[shard.split], shard)


def _can_start_processes() -> bool:
  """Returns whether a fresh interpreter could import the main module."""
  file = getattr(sys.modules.get('__main__'), '__file__', None)
  return file is None or os.path.exists(file)


def _videos(shards: list[Shard]) -> int:
  return sum(shard.stop - shard.start for shard in shards)


def _write_all(corpus: Corpus, shards: list[Shard], progress: bool) -> None:
  """Writes the shards that are missing, with several processes."""
  missing = [shard for shard in shards if not is_finished(shard)]
  require_space(dataset_dir(corpus.options), corpus, missing)
  workers = min(corpus.options.workers, len(missing))
  bar = tqdm.tqdm(
    total=_videos(shards),
    initial=sum(
      shard.stop - shard.start for shard in shards if shard not in missing
    ),
    desc=f'preparing {corpus.options.collection}',
    unit=' videos',
    disable=None if progress else True,
  )
  splits = list(corpus.splits.values())
  with bar:
    if workers <= 1 or not _can_start_processes():
      serializers = {split.name: Serializer(split) for split in splits}
      for shard in missing:
        split = corpus.splits[shard.split]
        bar.update(_write_one(split, serializers[shard.split], shard))
      return
    # A fresh interpreter: forking one that runs JAX or HDF5 threads may hang.
    with concurrent.futures.ProcessPoolExecutor(
      workers,
      mp_context=multiprocessing.get_context('spawn'),
      initializer=_start_worker,
      initargs=(splits,),
    ) as pool:
      jobs = [pool.submit(_work, shard) for shard in missing]
      try:
        for job in concurrent.futures.as_completed(jobs):
          bar.update(job.result())
      except BrokenProcessPool:
        raise DataError(
          f'a process that prepares {corpus.options.collection} was ended, as '
          'the system does where memory runs out; the finished shards are '
          'kept: give the same command again, with fewer --config.data.workers'
        ) from None
      except BaseException:
        # Shards in progress are finished, for the next run.
        pool.shutdown(wait=True, cancel_futures=True)
        raise


def _finish(
  corpus: Corpus, shards: list[Shard], sources: dict[str, Any]
) -> Manifest:
  """Joins the pieces of the index and writes metadata and manifest."""
  options = corpus.options
  facts: dict[str, dict[str, Any]] = {}
  for split in corpus.splits.values():
    mine = [shard for shard in shards if shard.split == split.name]
    pieces = [load_arrays(shard.piece) for shard in mine]
    lengths = [shard.stop - shard.start for shard in mine]
    written = {
      name: np.concatenate([piece[name] for piece in pieces])
      for name in pieces[0]
      if name != 'facts'
    }
    save_index(split, lengths, written)
    facts[split.name] = {
      'videos': len(split.video_ids),
      'captions': len(split.caption_ids),
      'shard_lengths': lengths,
      'shard_bytes': [int(piece['facts'][0]) for piece in pieces],
      'shard_crc32c': [int(piece['facts'][1]) for piece in pieces],
    }
  widths = (corpus.visual_width, corpus.text_width)
  write_metadata(
    options,
    widths,
    {name: fact['shard_lengths'] for name, fact in facts.items()},
    {name: sum(fact['shard_bytes']) for name, fact in facts.items()},
  )
  manifest = Manifest(
    format=manifests.FORMAT,
    name=dataset_name(options),
    options=manifests.dependent_options(options),
    visual_width=widths[0],
    text_width=widths[1],
    splits=facts,
    skipped=corpus.skipped,
    sources=sources,
    versions=manifests.versions(),
  )
  manifest.save(manifests.path(options))
  # The pieces stay: should a shard get lost, only that one is made anew.
  _log.info('prepared %s', dataset_dir(options))
  return manifest
