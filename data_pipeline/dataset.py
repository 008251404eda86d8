"""The prepared records as a dataset of TensorFlow Datasets.

The shards are ours and the metadata is theirs: a `GeneratorBasedBuilder` would
shuffle the examples, write in one process and start over after every stop.

TensorFlow Datasets takes a while to import, so it is imported when examples are
written.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.batching import captions_by_video
from data_pipeline.corpus import Split
from data_pipeline.options import DataOptions
from data_pipeline.paths import VERSION, dataset_dir, dataset_name

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

_DESCRIPTION = (
  'Partially relevant video retrieval: one example is one video with all its '
  'captions. Features are pooled, normalised and cut, ready to be batched.'
)


def features(
  visual_width: int, text_width: int, options: DataOptions
) -> 'tfds.features.FeaturesDict':
  """Returns the features of one example.

  Arrays are stored as raw bytes: exact, and decoded without a loop.
  """
  import tensorflow_datasets as tfds

  def tensor(shape, dtype):
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding='bytes')

  num_clips = options.num_clips
  merged = ('clip_sizes', 'clip_groups') if options.merged else ()
  return tfds.features.FeaturesDict(
    {
      'video_id': tfds.features.Text(),
      'num_frames': tfds.features.Scalar(np.int64),
      'duration': tensor((), np.float64),
      'clip_features': tensor((num_clips, visual_width), np.float32),
      'frame_features': tensor((None, visual_width), np.float32),
      'caption_ids': tfds.features.Sequence(tfds.features.Text()),
      'captions': tfds.features.Sequence(tfds.features.Text()),
      'num_words': tensor((None,), np.int64),
      'word_features': tensor((None, text_width), np.float32),
      'moments': tensor((None, 2), np.float64),
      **{name: tensor((num_clips,), np.int8) for name in merged},
    }
  )


class Serializer:
  """Turns videos of a split into serialised examples."""

  def __init__(self, split: Split):
    from tensorflow_datasets.core import example_serializer

    self._split = split
    self._features = features(
      split.visual_width, split.text_width, split.options
    )
    info = self._features.get_serialized_info()
    self._serializer = example_serializer.ExampleSerializer(
      info  # pyright: ignore[reportArgumentType]
    )
    self._order, self._starts = captions_by_video(
      split.caption_video, len(split.video_ids)
    )

  def __call__(self, video: int) -> tuple[bytes, list[bytes]]:
    """Returns the example of a video and its raw clips, frames and words."""
    split = self._split
    captions = self._order[self._starts[video] : self._starts[video + 1]]
    ((clips, frames),) = split.source.videos([video])
    words = np.concatenate(
      [
        # A video may have no caption.
        np.zeros((0, split.text_width), np.float32),
        *split.source.captions(list(captions)),
      ]
    )
    merged = {}
    if split.options.merged:
      ((sizes, groups),) = split.source.plans([video])
      merged = {'clip_sizes': sizes, 'clip_groups': groups}
    example = self._features.encode_example(
      {
        'video_id': split.video_ids[video],
        'num_frames': int(split.num_frames[video]),
        'duration': np.float64(split.durations[video]),
        'clip_features': clips,
        'frame_features': frames,
        'caption_ids': [split.caption_ids[i] for i in captions],
        'captions': [split.captions[i] for i in captions],
        'num_words': split.num_words[captions].astype(np.int64),
        'word_features': words,
        'moments': split.moments[captions],
        **merged,
      }
    )
    # Deterministic: the same features always give the same bytes. Sorted keys
    # put clips and frames next to each other.
    data = self._serializer.get_tf_example(example).SerializeToString(
      deterministic=True
    )
    return data, [clips.tobytes(), frames.tobytes(), words.tobytes()]


def write_metadata(
  options: DataOptions,
  widths: tuple[int, int],
  shard_lengths: dict[str, Sequence[int]],
  num_bytes: dict[str, int],
) -> None:
  """Writes the metadata that `tfds.load` reads, next to the shards.

  Args:
    options: The collection.
    widths: Widths of frame and word features.
    shard_lengths: Videos in each shard, by split.
    num_bytes: Bytes of all shards, by split.
  """
  import tensorflow_datasets as tfds

  folder = dataset_dir(options)
  template = tfds.core.ShardedFileTemplate(
    dataset_name=dataset_name(options),
    data_dir=folder,
    filetype_suffix='tfrecord',
    template='{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
  )
  infos = [
    tfds.core.SplitInfo(
      name=split,
      shard_lengths=list(lengths),
      num_bytes=num_bytes[split],
      filename_template=template.replace(split=split),
    )
    for split, lengths in shard_lengths.items()
  ]
  tfds.folder_dataset.write_metadata(
    data_dir=folder,
    features=features(*widths, options),
    split_infos=infos,
    version=VERSION,
    # The check would read an example with TensorFlow.
    check_data=False,
    description=_DESCRIPTION,
    homepage='https://github.com/HuiGuanLab/ms-sl',
    # In corpus order, or the shards would be read interleaved.
    disable_shuffling=True,
  )
