"""Preparation: turns the official release into sharded records, once.

Finished shards are never lost: a shard gets its name only when it is complete,
and a later run with the same sources and options continues after it. The
manifest is written last, so records with a manifest are complete.
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

from data_pipeline.corpus import Corpus, Split
from data_pipeline.dataset import Serializer, write_metadata
from data_pipeline.errors import DataError
from data_pipeline.fingerprints import fingerprints, hash_sources
from data_pipeline.index import load_arrays, save_arrays, save_index
from data_pipeline.manifest import (
  FORMAT,
  Manifest,
  dependent_options,
  versions,
)
from data_pipeline.opening import open_release_corpus
from data_pipeline.options import DataOptions
from data_pipeline.paths import (
  dataset_dir,
  dataset_name,
  is_remote,
  manifest_path,
  remove_partial_files,
  replacing,
)
from data_pipeline.records import write_shard
from data_pipeline.shards import Shard, is_finished, plan, require_space
from data_pipeline.verification import verified
from dreamprvr_jax import folders

_log = logging.getLogger(__name__)


def prepare(options: DataOptions, progress: bool = True) -> Manifest:
  """Writes the records of a release, or continues a run that was stopped.

  If another process is preparing them on the same disk, this one waits for it
  and then has nothing to do. (A bucket has no locks.)

  Args:
    options: The release, and how its items are made.
    progress: Whether to show a bar on a terminal.

  Returns:
    The manifest. If the records can be used, nothing is written.

  Raises:
    DataError: If the release is incomplete or an item is bad.
  """
  try:
    manifest = verified(options)
  except DataError:
    # Verified again below, when no other process can write them.
    pass
  else:
    _log.info('the records in %s are up to date', dataset_dir(options))
    return manifest
  # Errors in the release come before any folder is made.
  corpus = open_release_corpus(options)
  sources = fingerprints(options)
  with _held(dataset_dir(options)):
    try:
      return verified(options)
    except DataError as error:
      if manifest_path(options).exists():
        _log.info('preparing again: %s', error)
      else:
        _log.info('preparing %s', dataset_dir(options))
    return _prepare(corpus, sources, progress)


def _prepare(
  corpus: Corpus, sources: dict[str, dict[str, Any]], progress: bool
) -> Manifest:
  options = corpus.options
  folder = dataset_dir(options)
  _start_or_resume(folder, corpus, sources)
  shards = plan(corpus)
  for place in (folder, folder / 'pieces'):
    remove_partial_files(place)
  # Hashing whole files takes as long as reading them, so a thread does it.
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    stop = threading.Event()
    hashes = pool.submit(hash_sources, options, stop)
    try:
      _write_all(corpus, shards, progress)
    except BaseException:
      stop.set()
      raise
    for name, digest in hashes.result().items():
      sources[name]['sha256'] = digest
  if fingerprints(options) != {
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
  """Makes the folder of the records and locks it."""
  with contextlib.ExitStack() as stack:
    try:
      folder.mkdir(parents=True, exist_ok=True)
      if not is_remote(folder):
        stack.enter_context(folders.held(folder, 'prepared folder', wait=True))
    except OSError as error:
      if error.errno == errno.EROFS:
        # One type of error for every folder that cannot be written.
        raise PermissionError(*error.args) from error
      raise
    yield


def _start_or_resume(
  folder: epath.Path, corpus: Corpus, sources: dict[str, Any]
) -> None:
  """Keeps the shards of an earlier run with the same plan; removes others."""
  splits = corpus.splits.values()
  plan = {
    'format': FORMAT,
    'options': dependent_options(corpus.options),
    'shard_videos': corpus.options.shard_videos,
    'sources': sources,
    'items': [[s.name, s.video_ids, s.caption_ids] for s in splits],
  }
  text = json.dumps(plan, sort_keys=True)
  key = hashlib.sha256(text.encode()).hexdigest()
  plan_file = folder / 'plan.txt'
  # The manifest goes first, so that it never belongs to other shards.
  manifest_path(corpus.options).unlink(missing_ok=True)
  if plan_file.exists() and plan_file.read_text(encoding='utf-8') == key:
    _log.info('keeping the finished shards in %s', folder)
  else:
    plan_file.unlink(missing_ok=True)
    # Only files with our names: others belong to somebody else.
    name = dataset_name(corpus.options)
    for pattern in (f'pieces/{name}-*.npz', f'{name}-*.tfrecord-*'):
      for path in folder.glob(pattern):
        path.unlink()
    with replacing(plan_file) as partial:
      partial.write_bytes(key.encode())
  (folder / 'pieces').mkdir(exist_ok=True)


def _write_one(split: Split, serializer: Serializer, shard: Shard) -> int:
  """Writes one shard; returns its number of videos."""
  examples = (serializer(video) for video in range(shard.start, shard.stop))
  with replacing(shard.path) as partial, partial.open('wb') as file:
    offsets, size, crc = write_shard(file, examples)
  # Written after the shard is on disk: its size stands for the content.
  piece = {'offsets': offsets, 'facts': np.array([size, crc], np.int64)}
  if split.options.merged:
    piece['clip_plan'] = split.source.plans(range(shard.start, shard.stop))
  save_arrays(shard.piece, piece)
  return shard.stop - shard.start


# State of a worker process between its shards.
_worker: dict[str, tuple[Split, Serializer]] = {}


def _die_with_parent() -> None:
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
    # There is nothing to clean up: an unfinished shard has no name yet.
    os._exit(1)


def _start_worker(splits: list[Split]) -> None:
  # Ctrl-C reaches all processes of a terminal: the parent handles it and waits
  # for the shards in progress.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_die_with_parent, daemon=True).start()
  for split in splits:
    # Each worker is a process with one thread.
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
  """Writes the missing shards, with several processes."""
  missing = [shard for shard in shards if not is_finished(shard)]
  require_space(dataset_dir(corpus.options), corpus, missing)
  workers = min(corpus.options.workers, len(missing))
  bar = tqdm.tqdm(
    total=_videos(shards),
    initial=_videos(shards) - _videos(missing),
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
    # Not forked: a copy of a process with JAX or HDF5 threads may hang.
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
          'the system does when memory runs out; the finished shards are '
          'kept: give the same command again, with fewer --config.data.workers'
        ) from None
      except BaseException:
        # Shards in progress are finished for the next run.
        pool.shutdown(wait=True, cancel_futures=True)
        raise


def _finish(
  corpus: Corpus, shards: list[Shard], sources: dict[str, Any]
) -> Manifest:
  """Joins the pieces of the index; writes it, the metadata and the manifest."""
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
    format=FORMAT,
    name=dataset_name(options),
    options=dependent_options(options),
    visual_width=widths[0],
    text_width=widths[1],
    splits=facts,
    skipped=corpus.skipped,
    sources=sources,
    versions=versions(),
  )
  manifest.save(manifest_path(options))
  # The pieces stay: if a shard is lost, only that one is written again.
  _log.info('prepared %s', dataset_dir(options))
  return manifest
