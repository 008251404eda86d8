"""The shards of prepared records: their videos, and which are finished."""

import dataclasses
import shutil

from etils import epath

from data_pipeline.corpus import Corpus
from data_pipeline.errors import DataError
from data_pipeline.index import load_arrays
from data_pipeline.paths import (
  dataset_dir,
  dataset_name,
  file_size,
  is_remote,
  shard_name,
)


@dataclasses.dataclass(frozen=True)
class Shard:
  """One shard: videos `start` to `stop` of a split.

  Attributes:
    split: Name of the split.
    start: The first video.
    stop: The video after the last one.
    path: The shard.
    piece: Its part of the index.
  """

  split: str
  start: int
  stop: int
  path: epath.Path
  piece: epath.Path


def plan(corpus: Corpus) -> list[Shard]:
  """Returns the shards of all splits, in order."""
  options = corpus.options
  folder, name = dataset_dir(options), dataset_name(options)
  shards = []
  for split in corpus.splits.values():
    total = len(split.video_ids)
    count = -(-total // options.shard_videos)
    edges = [total * i // count for i in range(count + 1)]
    for number in range(count):
      file = shard_name(name, split.name, number, count)
      shards.append(
        Shard(
          split=split.name,
          start=edges[number],
          stop=edges[number + 1],
          path=folder / file,
          piece=folder / 'pieces' / f'{file}.npz',
        )
      )
  return shards


def is_finished(shard: Shard) -> bool:
  """Returns whether a shard and its piece of the index exist and agree."""
  if not shard.path.exists() or not shard.piece.exists():
    return False
  try:
    facts = load_arrays(shard.piece).get('facts')
  except DataError:
    return False
  size = file_size(shard.path)
  return facts is not None and facts[:1].tolist() == [size]


def require_space(
  folder: epath.Path, corpus: Corpus, shards: list[Shard]
) -> None:
  """Checks that the disk has space for the shards that are missing.

  Raises:
    DataError: If it has not.
  """
  if is_remote(folder):
    return
  needed = 0
  for shard in shards:
    split = corpus.splits[shard.split]
    mine = slice(shard.start, shard.stop)
    frames = split.stored_frames[mine]
    rows = int(frames.sum()) + len(frames) * corpus.options.num_clips
    owners = split.caption_video
    words = split.num_words[(owners >= shard.start) & (owners < shard.stop)]
    needed += 4 * rows * corpus.visual_width
    needed += 4 * int(words.sum()) * corpus.text_width
  free = shutil.disk_usage(folder).free
  if needed > free:
    raise DataError(
      f'the records still need {needed / 2**30:.1f} GiB but the disk of '
      f'{folder} has {free / 2**30:.1f} GiB free; free some, point '
      'prepared_dir to another disk, or set storage to release'
    )
