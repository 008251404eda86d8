"""--mode=index: encodes a split, or all videos, and stores them for search."""

import contextlib
import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipeline.archive import open_archive
from data_pipeline.corpus import Split
from dreamprvr_jax import text
from dreamprvr_jax.archive.folder.update import held, remove_on_purpose
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.compaction import compact, remove
from dreamprvr_jax.archive.index.layout import stored_bytes
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.store import Store, open_index
from dreamprvr_jax.archive.jobs.engine import Engine
from dreamprvr_jax.archive.jobs.indexing import (
  Plan,
  anywhere,
  elsewhere,
  videos_of,
)
from dreamprvr_jax.cli import (
  console,
  data,
  folder_config,
  folder_indexing,
  index_lists,
)
from dreamprvr_jax.cli.folder_report import size
from dreamprvr_jax.cli.origins import origin_of, takes_all
from dreamprvr_jax.cli.places import ids_in
from dreamprvr_jax.cli.retriever import free_of
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained import kept
from dreamprvr_jax.trained.retriever import FREE, Retriever

# Both ways to index take the same flags.
Arguments = folder_indexing.Arguments


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Makes an index of features, adds videos to it, or removes some.

  An index of folders is brought up to date instead.
  """
  if jax.process_count() > 1:
    raise UserError('--mode=index runs as one process; start it once')
  place = arguments.index
  index_lists.check(arguments)
  engine = Engine.of(
    arguments.engine, arguments.engine_options, arguments.workers
  )
  if arguments.remove or arguments.compact:
    _shrink(arguments)
    if not arguments.append:
      _keep_lists(config, arguments)
      return 0
  former = folder_config.manifest_of(place)
  if folder_config.follows_folders(former):
    folder_indexing.run(
      config, dataclasses.replace(arguments, remove='', compact=False)
    )
    _keep_lists(config, arguments)
    return 0
  is_new = arguments.checkpoint or arguments.append
  if former is not None and arguments.recall and not is_new:
    _keep_lists(config, arguments)
    return 0
  is_free = config.get('model', {}).get('name') in FREE
  if not (arguments.append or arguments.checkpoint or is_free):
    raise UserError(
      '--mode=index makes a new index with --checkpoint=DIR, or without '
      'training with --config=configs/NAME.py:tf_prvr; to change the one in '
      f'{place}, give --append, --remove=ID,ID, --compact or --recall'
    )
  mesh = meshes.make_mesh(config.num_devices, config.corpus_devices)
  store = retriever = None
  if arguments.append:
    store, retriever = open_index(place, arguments.checkpoint)
    if takes_all(config, store.manifest):
      arguments = dataclasses.replace(arguments, all_videos=True)
  elif arguments.checkpoint:
    retriever = Retriever.load(arguments.checkpoint)
    retriever.require_tokens_alone()
  split = _split(config, arguments, retriever)
  retriever = retriever or free_of(config, split)
  rows = np.arange(len(split.video_ids))
  if store is not None:
    rows = _missing(split, store, arguments.all_videos)
    if not len(rows):
      _keep_lists(config, arguments, retriever)
      return 0
  batch = config.data.eval_video_batch
  frames = store.manifest.frames if store is not None else 0
  videos = videos_of(split, rows, batch, frames)
  options: dict[str, Any] = {'mesh': mesh, 'show': arguments.progress}
  if engine:
    plan = Plan(
      str(pathlib.Path(retriever.checkpoint).absolute()),
      retriever.digest,
      anywhere(data.data_options(config)),
      '' if arguments.all_videos else split.name,
      batch,
      config.num_devices,
      config.corpus_devices,
      config.compilation_cache,
      json.dumps(retriever.facts) if retriever.is_free else '',
      frames,
    )
    options['elsewhere'] = elsewhere(engine, plan, rows.tolist())
  if arguments.append:
    made = writer.append(place, retriever, videos, **options)
  else:
    made = writer.create(
      place,
      retriever,
      videos,
      tokens=arguments.tokens,
      archive=origin_of(config, all_videos=arguments.all_videos),
      **options,
    )
  show(place, made)
  if former is not None and former.lists and not arguments.recall:
    # A new index in place of one with lists has some, too.
    arguments = dataclasses.replace(arguments, recall=former.lists.recall)
  _keep_lists(config, arguments, retriever)
  # For the first search.
  kept.keep(retriever)
  return 0


def _keep_lists(
  config: ConfigDict, arguments: Arguments, retriever: Retriever | None = None
) -> None:
  """Makes the lists of the index, or brings them up to date, if it has any."""
  manifest = folder_config.manifest_of(arguments.index)
  with contextlib.ExitStack() as stack:
    if folder_config.follows_folders(manifest):
      stack.enter_context(held(arguments.index))
    index_lists.keep(config, arguments, manifest, retriever)


def _shrink(arguments: Arguments) -> None:
  """Removes videos, or rewrites segments without removed ones, or both."""
  place = arguments.index
  manifest = Manifest.read(place)
  if arguments.remove:
    ids = ids_in('remove', arguments.remove, Store(place).rows_of())
    if folder_config.follows_folders(manifest):
      with held(place):
        manifest = remove_on_purpose(place, ids)
    else:
      manifest = remove(place, ids)
  if arguments.compact and folder_config.follows_folders(manifest):
    # A command that takes up new videos finds the index free all the time.
    with held(place):
      manifest = compact(place, show=arguments.progress)
  elif arguments.compact:
    manifest = compact(place, show=arguments.progress)
  show(place, manifest)


def _split(
  config: ConfigDict, arguments: Arguments, retriever: Retriever | None
) -> Split:
  """Returns the videos to index; raises UserError if their features do not fit
  the retriever, if there is one already."""
  if arguments.all_videos:
    split = corpus = open_archive(data.data_options(config))
  else:
    corpus = data.open_data(config, show=arguments.progress)
    split = data.get_split(corpus, data.final_split(config, corpus))
  if retriever is not None:
    data.check_widths(retriever.stored, corpus, retriever.checkpoint)
  return split


def _missing(split: Split, store: Store, is_archive: bool) -> np.ndarray:
  """Returns the rows of a split whose videos an index lacks; prints their
  number."""
  there = {text.normal(video) for video in store.rows_of()}
  rows = [i for i, name in enumerate(split.video_ids) if name not in there]
  which = 'all' if is_archive else f'the split {split.name}'
  console.say(
    f'{len(there):,} videos are in the index, {len(rows):,} of {which} are not'
  )
  return np.asarray(rows, int)


def show(place: str, manifest: Manifest) -> None:
  """Prints a summary of an index."""
  count, videos = len(manifest.segments), manifest.num_videos
  console.say(
    f'{place}: {videos:,} video{"s" * (videos != 1)} in {count:,} '
    f'segment{"s" * (count != 1)}, {size(stored_bytes(manifest))} of '
    f'{manifest.tokens} tokens, '
    f'made with {manifest.checkpoint}'
  )
