"""--mode=index: encode a split, or all videos, once; store it for search."""

import dataclasses
import pathlib
from collections.abc import Iterable

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipeline.archive import open_archive
from dreamprvr_jax import text
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.compaction import compact
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.store import Store, stored_bytes
from dreamprvr_jax.archive.jobs.engine import Engine
from dreamprvr_jax.archive.jobs.indexing import (
  Plan,
  anywhere,
  elsewhere,
  videos_of,
)
from dreamprvr_jax.cli import console, data
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of index; `options.py` says what each is."""

  index: str
  checkpoint: str
  append: bool
  remove: str
  compact: bool
  all_videos: bool
  tokens: str
  sub_vectors: int
  engine: str
  engine_options: str
  workers: int
  progress: bool


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Makes an index, adds videos to it, or removes some."""
  if jax.process_count() > 1:
    raise UserError('--mode=index runs as one process; start it once')
  place = arguments.index
  engine = Engine.of(
    arguments.engine, arguments.engine_options, arguments.workers
  )
  if arguments.remove or arguments.compact:
    manifest = Manifest.read(place)
    if arguments.remove:
      ids = named(arguments.remove, Store(place).rows_of())
      manifest = writer.remove(place, ids)
    if arguments.compact:
      manifest = compact(place)
    show(place, manifest)
    if not arguments.append:
      return 0
  checkpoint = arguments.checkpoint
  if arguments.append and not checkpoint:
    checkpoint = Manifest.read(place).checkpoint
  if not checkpoint:
    raise UserError(
      '--mode=index makes an index anew with --checkpoint=DIR; to change the '
      f'one in {place}, give --append, --remove=ID,ID or --compact'
    )
  mesh = meshes.make_mesh(config.num_devices, config.corpus_devices)
  retriever = Retriever.load(checkpoint)
  if arguments.all_videos:
    split = corpus = open_archive(data.data_options(config))
  else:
    corpus = data.open_data(config, show=arguments.progress)
    split = data.get_split(corpus, data.final_split(config, corpus))
  data.check_widths(retriever.stored, corpus, checkpoint)
  rows = np.arange(len(split.video_ids))
  options = {'mesh': mesh, 'show': arguments.progress}
  if arguments.append:
    there = {text.normal(video) for video in Store(place).rows_of()}
    rows = np.asarray([i for i in rows if split.video_ids[i] not in there], int)
    which = 'all' if arguments.all_videos else f'the split {split.name}'
    console.say(
      f'{len(there):,} videos are in the index, {len(rows):,} of {which} are '
      'not'
    )
    if not len(rows):
      return 0
  if engine:
    plan = Plan(
      str(pathlib.Path(checkpoint).absolute()),
      retriever.digest,
      anywhere(data.data_options(config)),
      '' if arguments.all_videos else split.name,
      config.data.eval_video_batch,
      config.num_devices,
      config.corpus_devices,
      config.compilation_cache,
    )
    options['elsewhere'] = elsewhere(engine, plan, rows.tolist())
  if arguments.append:
    videos = videos_of(split, rows, config.data.eval_video_batch)
    manifest = writer.append(place, retriever, videos, **options)
  else:
    videos = videos_of(split, rows, config.data.eval_video_batch)
    manifest = writer.create(
      place,
      retriever,
      videos,
      tokens=arguments.tokens,
      sub_vectors=arguments.sub_vectors,
      **options,
    )
  show(place, manifest)
  return 0


def named(flag: str, there: Iterable[str]) -> list[str]:
  """Returns the ids of --remove, as an index spells them.

  Args:
    flag: 'a,b', or '@FILE' with one on each line.
    there: The ids of the index, which may be older than their composed form.

  Raises:
    UserError: If the file is not UTF-8 text or names no video.
  """
  where = f'--remove={flag}'
  lines = text.read_rows(flag[1:]) if flag.startswith('@') else flag.split(',')
  names = [
    text.check(line.strip(), where) for line in lines if not text.is_blank(line)
  ]
  if not names:
    raise UserError(f'{where} names no video; give one id or more')
  stored = {text.normal(name): name for name in there}
  return [stored.get(name, name) for name in names]


def show(place: str, manifest: Manifest) -> None:
  """Prints what an index holds."""
  console.say(
    f'{place}: {manifest.num_videos:,} videos in {len(manifest.segments)} '
    f'segments, {stored_bytes(manifest) / 2**20:,.1f} MiB of '
    f'{manifest.tokens} tokens, '
    f'made with {manifest.checkpoint}'
  )
