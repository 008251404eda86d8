"""Iterators over batches: resident or streaming, the same bits either way."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from data_pipeline.batching import (
  TrainPlan,
  padded_range,
  process_rows,
  steps_per_epoch,
)
from data_pipeline.corpus import Split
from data_pipeline.errors import DataError
from data_pipeline.prefetch import Prefetcher
from data_pipeline.source import Source

Batch = dict[str, np.ndarray]
_PIPELINES = ('resident', 'streaming')


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
  return split.resident() if pipeline == 'resident' else split.source


class TrainIterator:
  """Endless training batches.

  Batch k is a pure function of the split, the batch size, the seed and k;
  `position`, the number of batches handed out so far, is all that a checkpoint
  has to keep.
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
      return train_batch(split, source, plan, number, *process)

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
  process_index: int = 0,
  process_count: int = 1,
) -> Batch:
  """Returns one process's rows of global training batch `number`."""
  indices = plan.batch(number)
  rows = process_rows(
    len(indices.videos), process_index, process_count, 'a batch'
  )
  slots = process_rows(
    len(indices.captions), process_index, process_count, 'a caption axis'
  )
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
  multiple: int = 16,
  prefetch: int = 2,
) -> TrainIterator:
  """Returns endless training batches, every epoch in an order of its own.

  Args:
    split: what to train on.
    batch_size: videos b in a global batch.
    seed: of the order.
    position: batches already seen; the first one returned is this one.
    pipeline: 'resident' (the split in host memory) or 'streaming' (read as
      needed, through tf.data).
    process_index: which process this is.
    process_count: how many there are; each gets equal slices of the rows.
    multiple: the caption axis n is a multiple of this, see `caption_slots`.
    prefetch: batches made ahead of time; 0 makes them in the caller's thread.

  Yields:
    clip_features (b, c, e), frame_features (b, f, e), frame_mask (b, f),
    video_mask (b,), word_features (n, l, e), word_mask (n, l), caption_mask
    (n,), caption_video (n,) int32: float32 features, bool masks; of merged
    clips also clip_sizes and clip_groups (b, c) int32.

  Raises:
    DataError: if b or a size of n cannot be divided among the processes.
  """
  source = _source(split, pipeline)
  plan = TrainPlan(
    split.caption_video,
    len(split.video_ids),
    batch_size=batch_size,
    seed=seed,
    multiple=multiple,
  )
  process_rows(batch_size, process_index, process_count, 'batch_size')
  for size in plan.slots:
    process_rows(
      size,
      process_index,
      process_count,
      f'a caption axis (multiple={multiple})',
    )
  if position < 0:
    raise DataError(f'position={position} must not be negative')
  process = (process_index, process_count)
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
  prefetch: int = 2,
) -> Iterator[Batch]:
  """Yields all videos in corpus order; the last batch is padded.

  Yields:
    clip_features (b, c, e), frame_features (b, f, e), frame_mask (b, f),
    video_mask (b,); of merged clips also clip_sizes and clip_groups (b, c).
  """
  source = _source(split, pipeline)
  total = len(split.video_ids)
  mine = process_rows(batch_size, process_index, process_count, 'batch_size')

  def make(number: int) -> Batch:
    rows = padded_range(number, batch_size, total)[mine]
    return {**split.read_videos(rows, source), 'video_mask': rows >= 0}

  steps = steps_per_epoch(total, batch_size)
  return _finite(_start(make, 0, steps, pipeline, prefetch))


def query_batches(
  split: Split,
  *,
  batch_size: int,
  pipeline: str = 'resident',
  process_index: int = 0,
  process_count: int = 1,
  prefetch: int = 2,
) -> Iterator[Batch]:
  """Yields all captions in file order; the last batch is padded.

  Yields:
    word_features (n, l, e), word_mask (n, l), caption_mask (n,).
  """
  source = _source(split, pipeline)
  total = len(split.caption_ids)
  mine = process_rows(batch_size, process_index, process_count, 'batch_size')

  def make(number: int) -> Batch:
    rows = padded_range(number, batch_size, total)[mine]
    return {**split.read_captions(rows, source), 'caption_mask': rows >= 0}

  steps = steps_per_epoch(total, batch_size)
  return _finite(_start(make, 0, steps, pipeline, prefetch))


def _finite(batches) -> Iterator[Batch]:
  """Yields batches and ends the background work, even if left early."""
  try:
    yield from batches
  finally:
    batches.close()
