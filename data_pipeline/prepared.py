"""Opening a corpus from prepared records."""

import numpy as np

from data_pipeline import manifest as manifests
from data_pipeline.corpus import Corpus, Split, Splits
from data_pipeline.dataset import dataset_dir, index_path, shard_name
from data_pipeline.options import SPLITS, DataOptions
from data_pipeline.records import (
  RecordSource,
  RecordTable,
  load_arrays,
  pack_strings,
  save_arrays,
  unpack_strings,
  word_starts,
)
from dreamprvr_jax import text

_STRINGS = ('video_ids', 'caption_ids', 'captions')
_ARRAYS = ('caption_video', 'num_frames', 'num_words', 'durations', 'moments')


def save_index(
  split: Split, shard_lengths: list[int], written: dict[str, np.ndarray]
) -> None:
  """Writes everything about a split that is not a feature.

  Args:
    split: what was prepared.
    shard_lengths: videos in each shard.
    written: what the shards told: `offsets` (v, 3), bytes before clips, frames
      and words; `clip_plan` (v, 2, c), if clips are merged.
  """
  arrays = {name: pack_strings(getattr(split, name)) for name in _STRINGS}
  arrays |= {name: getattr(split, name) for name in _ARRAYS}
  arrays['shard_lengths'] = np.array(shard_lengths, np.int64)
  save_arrays(index_path(split.options, split.name), arrays | written)


def open_record_corpus(options: DataOptions) -> Corpus:
  """Returns the corpus of prepared records that are known to be valid.

  Raises:
    DataError: if the manifest or an index cannot be read.
  """
  manifest = manifests.load(options)
  splits = {
    name: _open_split(name, manifest, options)
    for name in SPLITS
    if name in manifest.splits
  }
  return Corpus(
    options=options,
    storage='records',
    visual_width=manifest.visual_width,
    text_width=manifest.text_width,
    splits=Splits(splits, options),
    skipped=manifest.skipped,
  )


def _texts(packed: np.ndarray) -> list[str]:
  """Returns texts in NFC, in which older records may not be."""
  return list(map(text.normal, unpack_strings(packed)))


def _open_split(
  name: str, manifest: manifests.Manifest, options: DataOptions
) -> Split:
  index = load_arrays(index_path(options, name))
  lengths = index['shard_lengths']
  folder = dataset_dir(options)
  paths = [
    folder / shard_name(manifest.name, name, shard, len(lengths))
    for shard in range(len(lengths))
  ]
  caption_video, num_words = index['caption_video'], index['num_words']
  table = RecordTable(
    shard=np.repeat(np.arange(len(lengths)), lengths),
    offsets=index['offsets'],
    num_frames=options.stored_frames(index['num_frames']),
    caption_video=caption_video,
    num_words=num_words,
    word_start=word_starts(caption_video, num_words, len(index['num_frames'])),
    clip_plan=index.get('clip_plan'),
  )
  widths = (manifest.visual_width, manifest.text_width)
  return Split(
    name=name,
    **{key: _texts(index[key]) for key in _STRINGS},
    caption_video=caption_video,
    num_frames=index['num_frames'],
    num_words=num_words,
    durations=index['durations'],
    moments=index['moments'],
    visual_width=widths[0],
    text_width=widths[1],
    source=RecordSource(paths, table, *widths, options),
    options=options,
  )
