"""Iterators over batches; both pipelines give the same bits."""

import contextlib
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from data_pipeline.batching import (
  CAPTION_MULTIPLE,
  TrainPlan,
  padded_range,
  process_rows,
  steps_per_epoch,
)
from data_pipeline.corpus import Split
from data_pipeline.errors import DataError
from data_pipeline.prefetch import Prefetcher
from data_pipeline.resident import resident_source
from data_pipeline.source import Source

Batch = dict[str, np.ndarray]
_PIPELINES = ('resident', 'streaming')
# Batches that are made ahead of time.
_PREFETCH = 2


def _start(
  make: Callable[[int], Batch],
  first: int,
  last: int | None,
  pipeline: str,
  prefetch: int,
):
  """Returns an iterator over `make(first)`, `make(first + 1)`, ..."""
  if pipeline == 'streaming':
    from data_pipeline.streaming import Stream

    return Stream(make, first, last, prefetch)
  numbers = itertools.count(first) if last is None else range(first, last)
  return Prefetcher(make, iter(numbers), prefetch)


def _source(split: Split, pipeline: str) -> Source:
  if pipeline not in _PIPELINES:
    raise DataError(
      f'pipeline={pipeline!r} is not one of {", ".join(_PIPELINES)}'
    )
  return resident_source(split) if pipeline == 'resident' else split.source


class TrainIterator:
  """Endless training batches.

  Batch k is a pure function of the split, the batch size, the seed and k;
  `position`, the number of batches returned so far, is all that a checkpoint
  has to store.
  """

  def __init__(
    self,
    split: Split,
    plan: TrainPlan,
    source: Source,
    position: int,
    pipeline: str,
    process: tuple[int, int],
    prefetch: int,
  ):
    self.plan = plan
    self.position = position
    self.steps_per_epoch = plan.steps_per_epoch

    def make(number: int) -> Batch:
      return train_batch(split, source, plan, number, process)

    self._batches = _start(make, position, None, pipeline, prefetch)

  def __iter__(self) -> Iterator[Batch]:
    return self

  def __next__(self) -> Batch:
    batch = next(self._batches)
    self.position += 1
    return batch

  def close(self):
    """Ends the background work."""
    self._batches.close()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()


def train_batch(
  split: Split,
  source: Source,
  plan: TrainPlan,
  number: int,
  process: tuple[int, int] = (0, 1),
) -> Batch:
  """Returns one process's rows of global training batch `number`; see
  `train_batches`."""
  indices = plan.batch(number)
  rows = process_rows(len(indices.videos), *process, 'a batch')
  slots = process_rows(len(indices.captions), *process, 'a caption axis')
  videos, captions = indices.videos[rows], indices.captions[slots]
  return {
    **split.read_videos(videos, source),
    'video_mask': videos >= 0,
    **split.read_captions(captions, source),
    'caption_mask': captions >= 0,
    'caption_video': indices.caption_video[slots],
  }


def train_batches(
  split: Split,
  *,
  batch_size: int,
  seed: int,
  position: int = 0,
  pipeline: str = 'resident',
  process_index: int = 0,
  process_count: int = 1,
  multiple: int = CAPTION_MULTIPLE,
  prefetch: int = _PREFETCH,
) -> TrainIterator:
  """Returns endless training batches; every epoch has its own order.

  Args:
    split: The training split.
    batch_size: Videos b in a global batch.
    seed: Decides the order.
    position: Number of the first batch that is returned.
    pipeline: 'resident' (the split in host memory) or 'streaming' (read when
      needed, through tf.data).
    process_index: The number of this process.
    process_count: The number of processes; each gets equal slices of the rows.
    multiple: The caption axis n is a multiple of this, see `caption_slots`.
    prefetch: Batches made ahead of time; 0 makes them in the caller's thread.

  Yields:
    clip_features (b, c, e), frame_features (b, f, e), frame_mask (b, f),
    video_mask (b,), word_features (n, l, e), word_mask (n, l), caption_mask
    (n,), caption_video (n,) int32: float32 features, bool masks; if clips
    are merged also clip_sizes and clip_groups (b, c) int32.

  Raises:
    DataError: If b or a size of n cannot be divided among the processes.
  """
  source = _source(split, pipeline)
  plan = TrainPlan(
    split.caption_video,
    len(split.video_ids),
    batch_size=batch_size,
    seed=seed,
    multiple=multiple,
  )
  process = (process_index, process_count)
  process_rows(batch_size, *process, 'batch_size')
  for size in plan.slots:
    process_rows(size, *process, f'a caption axis (multiple={multiple})')
  if position < 0:
    raise DataError(f'position={position} must not be negative')
  return TrainIterator(
    split, plan, source, position, pipeline, process, prefetch
  )


def video_batches(
  split: Split,
  *,
  batch_size: int,
  pipeline: str = 'resident',
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[Batch]:
  """Returns batches of all videos in corpus order; the last one is padded.

  See `train_batches` for the arguments.

  Yields:
    clip_features (b, c, e), frame_features (b, f, e), frame_mask (b, f),
    video_mask (b,); if clips are merged also clip_sizes and clip_groups (b,
    c).
  """
  source = _source(split, pipeline)

  def read(videos: np.ndarray) -> Batch:
    return {**split.read_videos(videos, source), 'video_mask': videos >= 0}

  process = (process_index, process_count)
  return _in_order(read, len(split.video_ids), batch_size, pipeline, process)


def query_batches(
  split: Split,
  *,
  batch_size: int,
  pipeline: str = 'resident',
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[Batch]:
  """Returns batches of all captions in file order; the last one is padded.

  See `train_batches` for the arguments.

  Yields:
    word_features (n, l, e), word_mask (n, l), caption_mask (n,).
  """
  source = _source(split, pipeline)

  def read(captions: np.ndarray) -> Batch:
    return {
      **split.read_captions(captions, source),
      'caption_mask': captions >= 0,
    }

  process = (process_index, process_count)
  return _in_order(read, len(split.caption_ids), batch_size, pipeline, process)


def _in_order(
  read: Callable[[np.ndarray], Batch],
  total: int,
  batch_size: int,
  pipeline: str,
  process: tuple[int, int],
) -> Iterator[Batch]:
  """Returns one process's rows of the batches of items 0 to total - 1.

  Args:
    read: Returns the arrays of some items; -1 is padding.
    total: Number of items.
    batch_size: Items in a global batch.
    pipeline: 'resident' or 'streaming'.
    process: Which process this is, and how many there are.
  """
  mine = process_rows(batch_size, *process, 'batch_size')
  batches = _start(
    lambda number: read(padded_range(number, batch_size, total)[mine]),
    0,
    steps_per_epoch(total, batch_size),
    pipeline,
    _PREFETCH,
  )
  return _closing(batches)


def _closing(batches) -> Iterator[Batch]:
  """Yields batches and ends the background work, even if left early."""
  with contextlib.closing(batches):
    yield from batches
