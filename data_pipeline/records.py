"""Prepared records: TFRecord shards, read at byte offsets.

The framing is written and read here, so that neither needs TensorFlow. Arrays
are stored as raw little-endian bytes inside each example; the index has their
offsets in the shard, so a reader fetches exactly the bytes it needs, in any
order, without parsing anything.
"""

import dataclasses
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import IO, Any

import google_crc32c
import numpy as np
from etils import epath

from data_pipeline.errors import DataError
from data_pipeline.options import DataOptions
from data_pipeline.paths import is_remote
from data_pipeline.source import Threads

_FLOAT = np.dtype('<f4')
_FOOTER = struct.Struct('<I')
# Clips and frames are next to each other; a gap up to this many bytes is read
# with them.
_NEAR = 4096


def _masked_crc(data: bytes) -> int:
  crc = google_crc32c.value(data)
  return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame_record(data: bytes) -> tuple[bytes, int]:
  """Returns a record with its framing, and the offset of the data in it."""
  length = struct.pack('<Q', len(data))
  header = length + _FOOTER.pack(_masked_crc(length))
  return header + data + _FOOTER.pack(_masked_crc(data)), len(header)


def _damaged(path: Any) -> DataError:
  return DataError(
    f'{path} is truncated or damaged; remove it and prepare the records again'
  )


def write_shard(
  file: IO[bytes], examples: Iterator[tuple[bytes, list[bytes]]]
) -> tuple[np.ndarray, int, int]:
  """Writes records one after the other.

  Args:
    file: Open for writing, at its beginning.
    examples: (serialised example, [raw bytes of arrays that it contains]).

  Returns:
    (records, arrays) int64 byte offsets of the raw arrays in the file, the
    size of the file, and its crc32c.
  """
  offsets, position, crc = [], 0, 0
  for data, arrays in examples:
    framed, start = frame_record(data)
    places = [data.find(raw) for raw in arrays]
    assert min(places) >= 0, 'an array is not stored as raw bytes'
    offsets.append([position + start + place for place in places])
    file.write(framed)
    position += len(framed)
    crc = google_crc32c.extend(crc, framed)
  return np.array(offsets, np.int64), position, crc


class ShardReader:
  """Reads byte ranges of files, on a local disk or in a bucket."""

  def __init__(self, paths: Sequence[epath.Path]):
    self._paths = list(paths)
    self._local = hasattr(os, 'pread') and not any(map(is_remote, self._paths))
    self._start()

  def _start(self):
    self._descriptors: dict[int, int] = {}
    self._lock = threading.Lock()
    self._files = threading.local()
    self._opened: list[Any] = []

  def read(self, shard: int, offset: int, size: int) -> bytes:
    """Returns a byte range.

    Raises:
      DataError: If the file is missing or ends too early.
    """
    try:
      if self._local:
        data = self._pread(shard, offset, size)
      else:
        file = self._open(shard)
        file.seek(offset)
        data = file.read(size)
    except OSError as error:
      raise DataError(
        f'{self._paths[shard]} cannot be read ({error}); prepare the records '
        'again'
      ) from None
    if len(data) != size:
      raise _damaged(self._paths[shard])
    return data

  def _pread(self, shard: int, offset: int, size: int) -> bytes:
    descriptor = self._descriptors.get(shard)
    if descriptor is None:
      with self._lock:
        if shard not in self._descriptors:
          self._descriptors[shard] = os.open(self._paths[shard], os.O_RDONLY)
        descriptor = self._descriptors[shard]
    # Before the read, which allocates memory for the whole range.
    if offset + size > os.fstat(descriptor).st_size:
      raise _damaged(self._paths[shard])
    data = os.pread(descriptor, size, offset)
    while len(data) < size:  # one call reads at most 2 GiB
      more = os.pread(descriptor, size - len(data), offset + len(data))
      if not more:
        break
      data += more
    return data

  def _open(self, shard: int):
    # A file object has one position: every thread gets its own.
    files = self._files.__dict__.setdefault('open', {})
    if shard not in files:
      files[shard] = self._paths[shard].open('rb')
      self._opened.append(files[shard])
    return files[shard]

  def __del__(self):
    for descriptor in getattr(self, '_descriptors', {}).values():
      os.close(descriptor)
    for file in getattr(self, '_opened', []):
      file.close()


@dataclasses.dataclass(eq=False)
class RecordTable:
  """The places of a split's arrays in its shards.

  Attributes:
    shard: (v,) int64, shard of each video.
    offsets: (v, 3) int64, byte offsets of its clips, frames and words.
    num_frames: (v,) int32, number of stored frames.
    caption_video: (n,) int32, video of each caption.
    num_words: (n,) int32, number of stored words.
    word_start: (n,) int64, first row of a caption in its video's words.
    clip_plan: (v, 2, c) int8, sizes and groups of merged clips.
  """

  shard: np.ndarray
  offsets: np.ndarray
  num_frames: np.ndarray
  caption_video: np.ndarray
  num_words: np.ndarray
  word_start: np.ndarray
  clip_plan: np.ndarray | None = None


def word_starts(caption_video: np.ndarray, num_words: np.ndarray) -> np.ndarray:
  """Returns the first row of each caption in the words of its video, (n,)
  int64."""
  order = np.argsort(caption_video, kind='stable')
  ends = np.cumsum(num_words[order], dtype=np.int64)
  begins = ends - num_words[order]
  ordered = caption_video[order]
  first = np.searchsorted(ordered, ordered)
  starts = np.empty(len(order), np.int64)
  starts[order] = begins - begins[first]
  return starts


class RecordSource:
  """Reads items at their byte offsets in the shards."""

  def __init__(
    self,
    paths: Sequence[epath.Path],
    table: RecordTable,
    visual_width: int,
    text_width: int,
    options: DataOptions,
  ):
    self._reader = ShardReader(paths)
    self._table = table
    self._visual_width = visual_width
    self._text_width = text_width
    self._num_clips = options.num_clips
    self._threads = Threads(options.workers)

  def use_threads(self, count: int) -> None:
    """Sets how many threads read at a time."""
    self._threads = Threads(count)

  def video(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the clips and frames of one video."""
    table, width = self._table, self._visual_width
    shard = int(table.shard[index])
    clips_at, frames_at = (int(o) for o in table.offsets[index, :2])
    clip_bytes = self._num_clips * width * _FLOAT.itemsize
    frame_bytes = int(table.num_frames[index]) * width * _FLOAT.itemsize
    gap = frames_at - (clips_at + clip_bytes)
    if 0 <= gap <= _NEAR:
      size = clip_bytes + gap + frame_bytes
      clips = self._reader.read(shard, clips_at, size)
      frames = memoryview(clips)[clip_bytes + gap :]
    else:
      clips = self._reader.read(shard, clips_at, clip_bytes)
      frames = self._reader.read(shard, frames_at, frame_bytes)
    return (
      np.frombuffer(clips, _FLOAT, clip_bytes // 4).reshape(-1, width),
      np.frombuffer(frames, _FLOAT).reshape(-1, width),
    )

  def videos(self, indices: Sequence[int]):
    """See Source."""
    return self._threads.map(self.video, indices)

  def plans(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """See Source."""
    assert self._table.clip_plan is not None
    return self._table.clip_plan[np.asarray(indices)]

  def captions(self, indices: Sequence[int]):
    """See Source; the captions of one video are one read."""
    table = self._table
    groups: dict[int, list[int]] = {}
    for index in indices:
      groups.setdefault(int(table.caption_video[index]), []).append(index)
    parts = self._threads.map(
      lambda video: self._words(video, groups[video]), list(groups)
    )
    found = {i: words for part in parts for i, words in part.items()}
    return [found[index] for index in indices]

  def _words(self, video: int, captions: list[int]) -> dict[int, np.ndarray]:
    table, width = self._table, self._text_width
    starts = table.word_start[captions]
    ends = starts + table.num_words[captions]
    first, rows = int(starts.min()), int(ends.max() - starts.min())
    row_bytes = width * _FLOAT.itemsize
    raw = self._reader.read(
      int(table.shard[video]),
      int(table.offsets[video, 2]) + first * row_bytes,
      rows * row_bytes,
    )
    words = np.frombuffer(raw, _FLOAT).reshape(rows, width)
    return {
      caption: words[start - first : end - first]
      for caption, start, end in zip(captions, starts, ends, strict=True)
    }
