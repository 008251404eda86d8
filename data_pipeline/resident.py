"""A whole split as arrays in host memory."""

import logging
from collections.abc import Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any

import numpy as np
import tqdm

from data_pipeline.errors import DataError
from dreamprvr_jax.host_memory import available_memory

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
  from data_pipeline.corpus import Split

_CHUNK = 16
_GIB = 2**30


def split_bytes(split: 'Split', itemsize: int = 4) -> int:
  """Returns the bytes of a split's features without padding."""
  options = split.options
  frames = options.stored_frames(split.num_frames).sum(dtype=np.int64)
  clips = len(split.video_ids) * options.num_clips
  words = split.num_words.sum(dtype=np.int64)
  return itemsize * (
    int(clips + frames) * split.visual_width + int(words) * split.text_width
  )


def _offsets(lengths: np.ndarray) -> np.ndarray:
  return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


class ResidentSource:
  """Holds clips (v, c, e), frames and words (ragged, end to end)."""

  def __init__(
    self, split: 'Split', progress: bool = True, dtype: Any = np.float32
  ):
    """Reads a split with several threads.

    Args:
      split: what to read.
      progress: whether a bar is shown.
      dtype: of the features that are kept.

    Raises:
      DataError: if the split does not fit into memory, or its files are bad.
    """
    options = split.options
    num_videos, num_captions = len(split.video_ids), len(split.caption_ids)
    self._frame_offsets = _offsets(options.stored_frames(split.num_frames))
    self._word_offsets = _offsets(split.num_words)
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
    captions = np.argsort(split.caption_video, kind='stable')
    starts = _offsets(split.captions_per_video)
    self._captions, self._caption_offsets = captions, starts

    def load(first: int) -> int:
      last = min(first + _CHUNK, num_videos)
      for video in range(first, last):
        ((clips, frames),) = split.source.videos([video])
        self._clips[video] = clips
        self._frames[self._frame_rows(video)] = frames
        mine = captions[starts[video] : starts[video + 1]].tolist()
        for caption, words in zip(
          mine, split.source.captions(mine), strict=True
        ):
          self._words[self._word_rows(caption)] = words
      return last - first

    self._run(load, num_videos, options.workers, split.name, progress)
    self._plans = split.clip_plan
    _log.info(
      'resident: %s, %d videos, %d captions, %.2f GiB',
      split.name,
      num_videos,
      num_captions,
      self.num_bytes / _GIB,
    )

  def _run(self, load, num_videos: int, workers: int, name: str, progress):
    """Loads all chunks; the first error stops what has not begun."""
    # `disable=None` hides the bar where nobody looks at a terminal.
    bar = tqdm.tqdm(
      total=num_videos,
      desc=f'reading {name}',
      unit=' videos',
      disable=None if progress else True,
    )
    with bar, futures.ThreadPoolExecutor(workers) as pool:
      jobs = [pool.submit(load, i) for i in range(0, num_videos, _CHUNK)]
      try:
        for job in futures.as_completed(jobs):
          bar.update(job.result())
      except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise

  def _frame_rows(self, index: int) -> slice:
    return slice(self._frame_offsets[index], self._frame_offsets[index + 1])

  def _word_rows(self, index: int) -> slice:
    return slice(self._word_offsets[index], self._word_offsets[index + 1])

  def videos(self, indices: Sequence[int]):
    """Returns views: (c, e) clips and (f, e) frames of each video."""
    return [
      (self._clips[i], self._frames[self._frame_rows(i)]) for i in indices
    ]

  def plans(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns the (r, 2, c) int8 sizes and groups of merged clips."""
    assert self._plans is not None
    return self._plans[np.asarray(indices)]

  def arrays(self) -> dict[str, np.ndarray]:
    """Returns the features and where whose lie: (c, e) clips of all videos,
    the rows of frames and words, starts and counts, captions by video, and
    the sizes and groups of merged clips.

    Names are those of `dreamprvr_jax.devices.resident.ResidentSplit`.
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
    """Does nothing: views cost no time."""

  def captions(self, indices: Sequence[int]):
    """Returns views: (l, e) words of each caption."""
    return [self._words[self._word_rows(i)] for i in indices]
