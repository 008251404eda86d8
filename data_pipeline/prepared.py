"""Opening a corpus from prepared records."""

from typing import Any

import numpy as np

from data_pipeline import manifest as manifests
from data_pipeline.corpus import Corpus, Split, Splits
from data_pipeline.dataset import dataset_dir, index_path, shard_name
from data_pipeline.errors import DataError
from data_pipeline.index_file import (
  load_arrays,
  pack_strings,
  save_arrays,
  unpack_strings,
)
from data_pipeline.options import SPLITS, DataOptions
from data_pipeline.records import RecordSource, RecordTable, word_starts
from dreamprvr_jax import text

_STRINGS = ('video_ids', 'caption_ids', 'captions')
_ARRAYS = ('caption_video', 'num_frames', 'num_words', 'durations', 'moments')
# Kind of the values of each array of an index, and its shape: v videos, n
# captions, s shards, anything.
_INDEX = {
  'shard_lengths': ('i', 's'),
  'offsets': ('i', 'v3'),
  'num_frames': ('i', 'v'),
  'caption_video': ('i', 'n'),
  'num_words': ('i', 'n'),
  'durations': ('f', 'v'),
  'moments': ('f', 'n2'),
  **dict.fromkeys(_STRINGS, ('u', '*')),
}


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


def _open_split(
  name: str, manifest: manifests.Manifest, options: DataOptions
) -> Split:
  place = index_path(options, name)
  index = load_arrays(place)
  texts = _checked(index, manifest.splits[name], str(place))
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
    **texts,
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


def _checked(
  index: dict[str, np.ndarray], facts: dict[str, Any], where: str
) -> dict[str, list[str]]:
  """Returns the texts of an index, whose parts belong together.

  Raises:
    DataError: If an array is missing, of another shape or type, or points
      behind the end of a shard.
  """
  found = {key: index[key] for key in _INDEX if key in index}
  sizes = {
    'v': facts['videos'],
    'n': facts['captions'],
    's': len(facts['shard_bytes']),
    '2': 2,
    '3': 3,
  }
  for key, (kind, axes) in _INDEX.items():
    shape = tuple(sizes[axis] for axis in axes if axis != '*')
    array = found.get(key)
    if (
      array is None
      or array.dtype.kind != kind
      or (axes != '*' and array.shape != shape)
    ):
      raise _wrong(where, f'the array {key!r} is not as it has to be')
  # Older records may not be in NFC.
  texts = {
    key: list(map(text.normal, unpack_strings(index[key], where)))
    for key in _STRINGS
  }
  for key, strings in texts.items():
    if len(strings) != sizes['v' if key == 'video_ids' else 'n']:
      raise _wrong(where, f'{len(strings)} {key} are there')
  lengths = index['shard_lengths']
  bounds = {
    'shard_lengths': sizes['v'],
    'caption_video': sizes['v'] - 1,
    'num_frames': np.inf,
    'num_words': np.inf,
  }
  for key, most in bounds.items():
    if (
      index[key].size and not 0 <= index[key].min() <= index[key].max() <= most
    ):
      raise _wrong(where, f'{key!r} holds impossible numbers')
  if lengths.sum() != sizes['v']:
    raise _wrong(where, f'its shards hold {lengths.sum()} videos')
  ends = np.repeat(np.array(facts['shard_bytes'], np.int64), lengths)
  offsets = index['offsets']
  if offsets.size and not (
    offsets.min() >= 0 and (offsets <= ends[:, None]).all()
  ):
    raise _wrong(where, 'an offset lies behind the end of its shard')
  return texts


def _wrong(where: str, what: str) -> DataError:
  return DataError(
    f'{where} does not fit its manifest: {what}; prepare the records again'
  )
