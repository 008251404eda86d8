"""--mode=index: encode a split once, store it for search."""

import pathlib
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipeline.corpus import Split
from data_pipeline.prefetch import Prefetcher
from dreamprvr_jax import parallel
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.interop.retriever import Retriever
from dreamprvr_jax.search import writer
from dreamprvr_jax.search.manifest import Manifest
from dreamprvr_jax.search.store import Store
from dreamprvr_jax.search.writer import Videos
from modes import joins
from modes.joins import Arguments

# Batches that are read ahead.
_AHEAD = 2


def run(config: ConfigDict, arguments: Arguments) -> int:
  """Makes an index, adds the videos of a split to it, or removes some."""
  if jax.process_count() > 1:
    raise UserError('--mode=index runs as one process; start it once')
  place = arguments.index
  if arguments.remove:
    manifest = writer.remove(place, named(arguments.remove))
    show(place, manifest)
    if not arguments.append:
      return 0
  checkpoint = arguments.checkpoint
  if arguments.append and not checkpoint:
    checkpoint = Manifest.read(place).checkpoint
  if not checkpoint:
    raise UserError(
      '--mode=index makes an index anew with --checkpoint=DIR; to change the '
      f'one in {place}, give --append or --remove=ID,ID'
    )
  mesh = parallel.make_mesh(config.num_devices, config.corpus_devices)
  joins.keep_programs(config)
  retriever = Retriever.load(checkpoint)
  corpus = joins.open_data(config, show=arguments.progress)
  joins.check_widths(retriever.stored, corpus, checkpoint)
  split = joins.get_split(corpus, joins.final_split(config, corpus))
  rows = np.arange(len(split.video_ids))
  options = {'mesh': mesh, 'show': arguments.progress}
  if arguments.append:
    there = Store(place).rows_of()
    rows = np.asarray([i for i in rows if split.video_ids[i] not in there], int)
    joins.say(
      f'{len(there):,} videos are in the index, {len(rows):,} of the split '
      f'{split.name} are not'
    )
    if not len(rows):
      return 0
    videos = videos_of(split, rows, config.data.eval_video_batch)
    manifest = writer.append(place, retriever, videos, **options)
  else:
    videos = videos_of(split, rows, config.data.eval_video_batch)
    manifest = writer.create(
      place, retriever, videos, tokens=arguments.tokens, **options
    )
  show(place, manifest)
  return 0


def videos_of(split: Split, rows: np.ndarray, batch: int) -> Videos:
  """Returns some videos of a split, read as they are encoded."""

  def make(start: int) -> dict[str, np.ndarray]:
    # Always of one size: then a video is encoded alike in any company.
    here = np.full(batch, -1)
    few = rows[start : start + batch]
    here[: len(few)] = few
    return {**split.read_videos(here), 'video_mask': here >= 0}

  def batches() -> Iterator[dict[str, np.ndarray]]:
    found = Prefetcher(make, iter(range(0, len(rows), batch)), _AHEAD)
    try:
      yield from found
    finally:
      found.close()

  ids = [split.video_ids[row] for row in rows]
  return Videos(ids, split.durations[rows], batches)


def named(text: str) -> list[str]:
  """Returns the ids of --remove: 'a,b', or '@FILE' with one on each line."""
  if not text.startswith('@'):
    return [name for name in text.split(',') if name]
  path = pathlib.Path(text[1:])
  try:
    lines = path.read_text().splitlines()
  except UnicodeDecodeError:
    raise UserError(
      f'--remove={text}: {path} is no text file; it holds one id on each line'
    ) from None
  return [line.strip() for line in lines if line.strip()]


def show(place: str, manifest: Manifest) -> None:
  """Prints what an index holds."""
  stored = [p.stat().st_size for p in pathlib.Path(place).rglob('*.npy')]
  joins.say(
    f'{place}: {manifest.num_videos:,} videos in {len(manifest.segments)} '
    f'segments, {sum(stored) / 2**20:,.1f} MiB of {manifest.tokens} tokens, '
    f'made with {manifest.checkpoint}'
  )
