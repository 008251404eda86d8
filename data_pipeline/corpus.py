"""A corpus: its splits, their ids and counts, and access to their arrays."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.options import DataOptions
from data_pipeline.source import Source

# 64 bytes, counted in float32 numbers.
_ALIGNMENT = 16


@dataclasses.dataclass(eq=False, repr=False)
class Split:
  """One split: v videos in order of first appearance, and their n captions.

  Attributes:
    name: 'train', 'val' or 'test'.
    video_ids: v ids.
    caption_ids: n ids, in the order of the caption file.
    captions: n sentences.
    caption_video: (n,) int32, index of each caption's video.
    num_frames: (v,) int32, original lengths.
    num_words: (n,) int32, rows of each caption's features after the cut.
    durations: (v,) float64 seconds, nan if unknown.
    moments: (n, 2) float64 seconds, nan if unknown.
    visual_width: width e of the frame features.
    text_width: width e of the word features.
    source: reads the arrays.
    options: how an item is made.
    frame_edges: borders of each video's stored frames, rising numbers of its
      original frames from 0 on; None if they share it evenly.
  """

  name: str
  video_ids: list[str]
  caption_ids: list[str]
  captions: list[str]
  caption_video: np.ndarray
  num_frames: np.ndarray
  num_words: np.ndarray
  durations: np.ndarray
  moments: np.ndarray
  visual_width: int
  text_width: int
  source: Source
  options: DataOptions
  frame_edges: Sequence[np.ndarray] | None = None

  # All of a split, which never changes: each batch asks for it.
  @functools.cached_property
  def stored_frames(self) -> np.ndarray:
    """Number of frames that are kept of each video, (v,)."""
    if self.frame_edges is None:
      return self.options.stored_frames(self.num_frames)
    return np.array([len(edges) - 1 for edges in self.frame_edges], np.int32)

  @functools.cached_property
  def max_frames(self) -> int:
    """Frames that a video is padded to."""
    if self.options.retriever:
      return int(self.stored_frames.max())
    return self.options.max_frames

  @property
  def captions_per_video(self) -> np.ndarray:
    """Number of captions of each video, (v,) int64."""
    return np.bincount(self.caption_video, minlength=len(self.video_ids))

  @property
  def clip_plan(self) -> np.ndarray | None:
    """The number of frames of each clip and the merged clip that it joins,
    (v, 2, c) int8; None unless clips are merged. On an official release this
    reads all videos."""
    if not self.options.merged:
      return None
    return self.source.plans(range(len(self.video_ids)))

  def read_videos(
    self, indices: Sequence[int] | np.ndarray, source: Source | None = None
  ) -> dict[str, np.ndarray]:
    """Returns the features of some videos, padded to static shapes.

    Args:
      indices: r videos of the split in any order; -1 gives a row of zeros.
      source: reads the arrays; the split's own source if not given.

    Returns:
      clip_features (r, c, e) float32, frame_features (r, f, e) float32 with
      zeros after the last frame, frame_mask (r, f) bool. If clips are merged
      also clip_sizes and clip_groups (r, c) int32, see `clip_plan`; in a row
      of zeros all clips have one size and each is its own group.

    Raises:
      DataError: If a value is not finite or a file is damaged.
      IndexError: If an index is out of range.
    """
    rows = _rows(indices, len(self.video_ids), 'video')
    real = np.flatnonzero(rows >= 0)
    options = self.options
    clips = _empty((len(rows), options.num_clips, self.visual_width))
    most = self.max_frames
    frames = _empty((len(rows), most, self.visual_width))
    clips[rows < 0] = frames[rows < 0] = 0
    lengths = np.zeros(len(rows), np.int64)
    lengths[real] = self.stored_frames[rows[real]]
    source = source or self.source
    items = source.videos([int(i) for i in rows[real]])
    for row, (item_clips, item_frames) in zip(real, items, strict=True):
      clips[row] = item_clips
      frames[row, : lengths[row]] = item_frames
      frames[row, lengths[row] :] = 0
    arrays = {
      'clip_features': clips,
      'frame_features': frames,
      'frame_mask': np.arange(most) < lengths[:, None],
    }
    if options.merged:
      shape = (len(rows), options.num_clips)
      size = options.max_frames // options.num_clips
      sizes = np.full(shape, size, np.int32)
      groups = np.tile(np.arange(shape[1], dtype=np.int32), (len(rows), 1))
      # After the videos: an official release plans when it makes the clips.
      plan = source.plans(rows[real])
      sizes[real], groups[real] = plan[:, 0], plan[:, 1]
      arrays |= {'clip_sizes': sizes, 'clip_groups': groups}
    return arrays

  def read_captions(
    self, indices: Sequence[int] | np.ndarray, source: Source | None = None
  ) -> dict[str, np.ndarray]:
    """Returns the features of some captions, padded to static shapes.

    Args:
      indices: r captions of the split in any order; -1 gives a row of zeros.
      source: reads the arrays; the split's own source if not given.

    Returns:
      word_features (r, l, e) float32, word_mask (r, l) bool.

    Raises:
      DataError: If a value is not finite or a file is damaged.
      IndexError: If an index is out of range.
    """
    rows = _rows(indices, len(self.caption_ids), 'caption')
    real = np.flatnonzero(rows >= 0)
    max_words = self.options.max_words
    words = _empty((len(rows), max_words, self.text_width))
    words[rows < 0] = 0
    lengths = np.zeros(len(rows), np.int64)
    lengths[real] = self.num_words[rows[real]]
    items = (source or self.source).captions([int(i) for i in rows[real]])
    for row, item in zip(real, items, strict=True):
      words[row, : lengths[row]] = item
      words[row, lengths[row] :] = 0
    return {
      'word_features': words,
      'word_mask': np.arange(max_words) < lengths[:, None],
    }


class Splits(dict):
  """Splits by name; a name that is missing raises a DataError that lists
  them."""

  def __init__(self, splits: dict[str, Split], options: DataOptions):
    super().__init__(splits)
    self._options = options

  def __missing__(self, name: str):
    options = self._options
    path = f'{options.folder}/TextData/{options.collection}{name}.caption.txt'
    raise DataError(
      f'the split {name!r} is missing: {path} does not exist; the corpus has '
      f'{", ".join(self)}: add the file or choose one of these'
    )


@dataclasses.dataclass(eq=False)
class Corpus:
  """All splits of a collection.

  Attributes:
    options: the options that it was opened with.
    storage: 'release' or 'records', the files that the arrays come from.
    visual_width: width of the frame features.
    text_width: width of the word features.
    splits: by name; only those that have a caption file.
    skipped: (item, reason) of each item that was left out.
  """

  options: DataOptions
  storage: str
  visual_width: int
  text_width: int
  splits: dict[str, Split]
  skipped: list[tuple[str, str]]

  def describe(self) -> list[dict[str, Any]]:
    """Returns one row of counts and sizes for each split."""
    rows = []
    for split in self.splits.values():
      counts = split.captions_per_video
      rows.append(
        {
          'split': split.name,
          'storage': self.storage,
          'videos': len(split.video_ids),
          'captions': len(split.caption_ids),
          'captions_per_video': round(float(counts.mean()), 2),
          'most_captions': int(counts.max()),
          'frames_mean': round(float(split.num_frames.mean()), 1),
          'frames_max': int(split.num_frames.max()),
          'words_mean': round(float(split.num_words.mean()), 1),
          'visual_width': self.visual_width,
          'text_width': self.text_width,
          'with_duration': int(np.isfinite(split.durations).sum()),
          'with_moment': int(np.isfinite(split.moments[:, 0]).sum()),
          'skipped': len(self.skipped),
        }
      )
    return rows


def _empty(shape: tuple[int, ...]) -> np.ndarray:
  """Returns an uninitialised float32 array.

  Its address is aligned, so that TensorFlow need not copy it.
  """
  size = math.prod(shape)
  buffer = np.empty(size + _ALIGNMENT, np.float32)
  start = -buffer.ctypes.data // buffer.itemsize % _ALIGNMENT
  return buffer[start : start + size].reshape(shape)


def _rows(indices, count: int, what: str) -> np.ndarray:
  rows = np.asarray(indices, np.int64).reshape(-1)
  if rows.size and (rows.min() < -1 or rows.max() >= count):
    raise IndexError(
      f'{what} indices run from {rows.min()} to {rows.max()} in a split of '
      f'{count}'
    )
  return rows
