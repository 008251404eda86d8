"""A whole split as arrays in host memory."""

import logging
import weakref
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import numpy as np
import tqdm

from data_pipeline.batching import captions_by_video, starts_of
from data_pipeline.corpus import Split
from data_pipeline.errors import DataError
from dreamprvr_jax.host_memory import available_memory

_log = logging.getLogger(__name__)

_CHUNK = 16
_GIB = 2**30
# Not a field of a split, so that its file need not import this one.
_read: 'weakref.WeakKeyDictionary[Split, ResidentSource]' = (
  weakref.WeakKeyDictionary()
)


def resident_source(split: Split) -> 'ResidentSource':
  """Returns a split's arrays in host memory, read on the first call.

  They are kept as long as the split is.

  Raises:
    DataError: If the split does not fit into memory, or its files are bad.
  """
  if split not in _read:
    _read[split] = ResidentSource(split)
  return _read[split]


def split_bytes(split: Split, itemsize: int = 4) -> int:
  """Returns the bytes of a split's features without padding.

  Args:
    split: The split.
    itemsize: Bytes of one value.
  """
  options = split.options
  frames = split.stored_frames.sum(dtype=np.int64)
  clips = len(split.video_ids) * options.num_clips
  words = split.num_words.sum(dtype=np.int64)
  return itemsize * (
    int(clips + frames) * split.visual_width + int(words) * split.text_width
  )


class ResidentSource:
  """A split's arrays: clips (v, c, e), and frames and words end to end."""

  def __init__(
    self, split: Split, progress: bool = True, dtype: Any = np.float32
  ):
    """Reads a split with several threads.

    Args:
      split: The split.
      progress: Whether to show a bar on a terminal.
      dtype: The type of the features in memory.

    Raises:
      DataError: If the split does not fit into memory, or its files are bad.
    """
    options = split.options
    num_videos, num_captions = len(split.video_ids), len(split.caption_ids)
    self._frame_offsets = starts_of(split.stored_frames)
    self._word_offsets = starts_of(split.num_words)
    clip_shape = (num_videos, options.num_clips, split.visual_width)
    frame_shape = (int(self._frame_offsets[-1]), split.visual_width)
    word_shape = (int(self._word_offsets[-1]), split.text_width)
    self.num_bytes = split_bytes(split, np.dtype(dtype).itemsize)
    available = available_memory()
    if available is not None and self.num_bytes > available:
      raise DataError(
        f'the {split.name} split takes {self.num_bytes / _GIB:.1f} GiB of host '
        f'memory but only {available / _GIB:.1f} GiB are free; use the '
        'streaming pipeline (on prepared records)'
      )
    self._clips = np.empty(clip_shape, dtype)
    self._frames = np.empty(frame_shape, dtype)
    self._words = np.empty(word_shape, dtype)
    self._captions, self._caption_offsets = captions_by_video(
      split.caption_video, num_videos
    )
    self._fill(split, progress)
    self._plans = split.clip_plan
    _log.info(
      'resident: %s, %d videos, %d captions, %.2f GiB',
      split.name,
      num_videos,
      num_captions,
      self.num_bytes / _GIB,
    )

  def _fill(self, split: Split, progress: bool) -> None:
    """Reads all videos in chunks; after an error no further chunk starts."""
    count = len(split.video_ids)
    # `disable=None` hides the bar unless the output is a terminal.
    bar = tqdm.tqdm(
      total=count,
      desc=f'reading {split.name}',
      unit=' videos',
      disable=None if progress else True,
    )
    with bar, futures.ThreadPoolExecutor(split.options.workers) as pool:
      jobs = [
        pool.submit(self._load, split, first, min(first + _CHUNK, count))
        for first in range(0, count, _CHUNK)
      ]
      try:
        for job in futures.as_completed(jobs):
          bar.update(job.result())
      except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise

  def _load(self, split: Split, first: int, last: int) -> int:
    """Reads videos `first` to `last`; returns how many they are."""
    for video in range(first, last):
      ((clips, frames),) = split.source.videos([video])
      self._clips[video] = clips
      self._frames[self._frame_rows(video)] = frames
      mine = slice(*self._caption_offsets[video : video + 2])
      captions = self._captions[mine].tolist()
      for caption, words in zip(
        captions, split.source.captions(captions), strict=True
      ):
        self._words[self._word_rows(caption)] = words
    return last - first

  def _frame_rows(self, index: int) -> slice:
    return slice(self._frame_offsets[index], self._frame_offsets[index + 1])

  def _word_rows(self, index: int) -> slice:
    return slice(self._word_offsets[index], self._word_offsets[index + 1])

  def videos(self, indices: Sequence[int]):
    """Returns views of the (c, e) clips and (f, e) frames of each video."""
    return [
      (self._clips[i], self._frames[self._frame_rows(i)]) for i in indices
    ]

  def plans(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns the (r, 2, c) int8 sizes and groups of merged clips."""
    assert self._plans is not None
    return self._plans[np.asarray(indices)]

  def arrays(self) -> dict[str, np.ndarray]:
    """Returns the features and tables that find them.

    Names are those of `dreamprvr_jax.devices.resident.ResidentSplit`: clips
    (v, c, e), frames and words end to end, captions (n,) sorted by video; for
    frames, words and captions the start and count of each item; clip_plan (v,
    2, c) if clips are merged.
    """
    arrays = {
      'clips': self._clips,
      'frames': self._frames,
      'words': self._words,
      'captions': self._captions.astype(np.int32),
    }
    for name, offsets in (
      ('frame', self._frame_offsets),
      ('word', self._word_offsets),
      ('caption', self._caption_offsets),
    ):
      arrays[f'{name}_starts'] = offsets[:-1].astype(np.int32)
      arrays[f'{name}_counts'] = np.diff(offsets).astype(np.int32)
    if self._plans is not None:
      arrays['clip_plan'] = self._plans
    return arrays

  def use_threads(self, count: int) -> None:
    """Does nothing: making views takes no time."""

  def captions(self, indices: Sequence[int]):
    """Returns views of the (l, e) words of each caption."""
    return [self._words[self._word_rows(i)] for i in indices]
