"""Which videos and captions each batch has: numbers only, no features.

Everything here is a pure function of the caption counts, the batch size, the
seed and the number of the batch, so that every process computes the same
global batch and a run resumes anywhere at once.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Sequence

import numpy as np

from data_pipeline.errors import DataError

_GROWTH = 1.5
_DEVIATIONS = 4.0
_WORD = 2**32 - 1
# The caption axis of a batch is a multiple of this, unless told otherwise.
CAPTION_MULTIPLE = 16
# Initial values of the two keys of the shuffle.
_SHUFFLE = (zlib.crc32(b'shuffle'), zlib.crc32(b'shuffle again'))


def steps_per_epoch(num_videos: int, batch_size: int) -> int:
  """Returns the batches of an epoch; the last one may be partial."""
  if batch_size < 1:
    raise DataError(f'batch_size={batch_size} must be at least 1')
  return -(-num_videos // batch_size)


def caption_slots(
  counts: Sequence[int] | np.ndarray,
  batch_size: int,
  multiple: int = CAPTION_MULTIPLE,
) -> list[int]:
  """Returns the few sizes that the caption axis of a batch may have.

  Each size is one compiled program. The first covers nearly every batch (mean
  plus four standard deviations of a batch's sum); the others grow by half up
  to the largest possible sum, so that no caption is ever dropped.

  Args:
    counts: (v,) captions of each video.
    batch_size: videos in a batch.
    multiple: every size is a multiple of this.

  Returns:
    Sizes, smallest first.

  Raises:
    DataError: If an argument is not positive or the split has no video.
  """
  counts = np.asarray(counts, np.int64)
  if not counts.size or batch_size < 1 or multiple < 1:
    raise DataError(
      'caption slots need at least one video, a batch_size and a multiple of '
      f'at least 1; got {counts.size} videos, {batch_size} and {multiple}'
    )

  def whole(number: float) -> int:
    return max(1, math.ceil(number / multiple)) * multiple

  size = min(batch_size, counts.size)
  largest = whole(int(np.sort(counts)[-size:].sum()))
  # Drawn without replacement, hence the correction of the variance.
  finite = (counts.size - size) / max(counts.size - 1, 1)
  deviation = math.sqrt(size * float(counts.var()) * finite)
  usual = whole(size * float(counts.mean()) + _DEVIATIONS * deviation)
  sizes = [min(usual, largest)]
  while sizes[-1] < largest:
    sizes.append(min(whole(sizes[-1] * _GROWTH), largest))
  return sizes


@dataclasses.dataclass(frozen=True)
class BatchIndices:
  """The videos and captions of a global batch; -1 is padding.

  Attributes:
    videos: (b,) int64 indices of videos, padding last.
    captions: (n,) int64 indices of captions, adjacent by video.
    caption_video: (n,) int32 row of each caption's video, 0 for padding.
  """

  videos: np.ndarray
  captions: np.ndarray
  caption_video: np.ndarray


def process_rows(size: int, index: int, count: int, what: str) -> slice:
  """Returns the rows of an axis that belong to one process.

  Raises:
    DataError: If the axis cannot be divided.
  """
  if not 0 <= index < count:
    raise DataError(f'process {index} of {count} does not exist')
  if size % count:
    raise DataError(
      f'{what} of {size} cannot be divided among {count} processes; choose a '
      f'multiple of {count}'
    )
  return slice(index * size // count, (index + 1) * size // count)


def epoch_order(num_videos: int, seed: int, epoch: int) -> np.ndarray:
  """Returns the permutation of one epoch, (v,) int64.

  The order of hashed positions: integer operations that an accelerator can
  repeat, as `dreamprvr_jax.devices.resident.epoch_order` does. The hash is a
  permutation of 32 bits, so no two positions tie.
  """
  # Two keys for every (seed, epoch); `seed` counts modulo 2^64.
  low, high = (
    _digest(start, seed & _WORD, seed >> 32 & _WORD, epoch)
    for start in _SHUFFLE
  )
  position = np.arange(num_videos, dtype=np.uint32)
  return np.argsort(_mix(_mix(position + low) ^ high), kind='stable')


def _digest(start: int, *words: int) -> np.ndarray:
  """Returns 32 bits that depend on all words, (1,) uint32."""
  key = np.array([start], np.uint32)
  for word in words:
    key = _mix(key ^ np.uint32(word))
  return key


def _mix(x: np.ndarray) -> np.ndarray:
  """Returns the multiply-and-shift hash of 32-bit words (Wellons'
  lowbias32)."""
  x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
  x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
  return x ^ (x >> 16)


def starts_of(lengths: np.ndarray) -> np.ndarray:
  """Returns the start of each of v runs of these lengths, placed end to end,
  and the end of the last one, (v + 1,) int64."""
  return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def captions_by_video(
  caption_video: np.ndarray, num_videos: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the captions sorted by video, and where each video's begin.

  Args:
    caption_video: (n,) video of each caption, in any order.
    num_videos: v.

  Returns:
    (n,) int64 captions, (v + 1,) int64 starts: those of video i are
    `captions[starts[i] : starts[i + 1]]`.
  """
  counts = np.bincount(caption_video, minlength=num_videos)
  return np.argsort(caption_video, kind='stable'), starts_of(counts)


class TrainPlan:
  """The global batches of training, by number."""

  def __init__(
    self,
    caption_video: np.ndarray,
    num_videos: int,
    *,
    batch_size: int,
    seed: int,
    multiple: int = CAPTION_MULTIPLE,
  ):
    """Plans the batches.

    Args:
      caption_video: (n,) video of each caption.
      num_videos: v.
      batch_size: videos in a global batch.
      seed: decides the order.
      multiple: see `caption_slots`.
    """
    self._captions, self._starts = captions_by_video(caption_video, num_videos)
    counts = np.diff(self._starts)
    self._counts = counts
    self.batch_size = batch_size
    self.seed = seed
    self.slots = caption_slots(counts, batch_size, multiple)
    self.steps_per_epoch = steps_per_epoch(num_videos, batch_size)
    self._order = functools.lru_cache(maxsize=4)(
      functools.partial(epoch_order, num_videos, seed)
    )

  def slots_of(self, number: int) -> int:
    """Returns the size of the caption axis of batch `number`."""
    return self._fitting(self._counts[self._videos(number)].sum())

  def _videos(self, number: int) -> np.ndarray:
    epoch, step = divmod(number, self.steps_per_epoch)
    first = step * self.batch_size
    return self._order(epoch)[first : first + self.batch_size]

  def _fitting(self, captions: int) -> int:
    return next(size for size in self.slots if size >= captions)

  def batch(self, number: int) -> BatchIndices:
    """Returns batch `number`, counted from the start of training."""
    real = self._videos(number)
    videos = np.full(self.batch_size, -1, np.int64)
    videos[: len(real)] = real
    groups = [
      self._captions[self._starts[v] : self._starts[v + 1]] for v in real
    ]
    found = np.concatenate(groups)
    size = self._fitting(len(found))
    captions = np.full(size, -1, np.int64)
    captions[: len(found)] = found
    caption_video = np.zeros(size, np.int32)
    caption_video[: len(found)] = np.repeat(
      np.arange(len(real)), [len(group) for group in groups]
    )
    return BatchIndices(videos, captions, caption_video)


def padded_range(number: int, batch_size: int, total: int) -> np.ndarray:
  """Returns batch `number` of the rows 0 to total - 1 in order, (b,) int64;
  -1 after the end."""
  rows = number * batch_size + np.arange(batch_size)
  return np.where(rows < total, rows, -1)
