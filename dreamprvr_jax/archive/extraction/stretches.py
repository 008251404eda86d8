"""Features of video files of any length, in stretches that fit into memory.

Extraction and indexing both use it. The features of a file go to a temporary
file on disk while it is decoded; from there they are read a stretch at a time.
"""

import contextlib
import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from typing import IO

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.archive.encoders import Encoder
from dreamprvr_jax.archive.extraction.decoders import Begun, Work, decoded
from dreamprvr_jax.archive.videos.frames import LIMITS, Limits


@dataclasses.dataclass(frozen=True)
class Stretch:
  """The features of a part of a file.

  Attributes:
    start: Where the part begins, in seconds of the whole file.
    end: Where it ends, in seconds of the whole file.
    times: (n,) float64, the middle of each sample's interval of 1 / fps
      seconds, in seconds of the whole file.
    features: (n, d) float32, a row per sample; n is at least 1.
    last: Whether the file ends with this part.
    duration: Seconds of the whole file.
  """

  start: float
  end: float
  times: Float[np.ndarray, ' n']
  features: Float[np.ndarray, 'n d']
  last: bool
  duration: float


class Encoded:
  """A file that was read: its features, or the reason why there are none.

  Attributes:
    path: The file, as it was given.
    reason: Why the file cannot be read, and what to do about it; '' if it was
      read.
    duration: Seconds; NaN if it was not read.
    fps: Samples per second.
  """

  def __init__(self, path: str, fps: float, folder: str | None = None):
    """Begins with no row.

    Args:
      path: The file.
      fps: Samples per second.
      folder: Folder of the temporary file; None for the system's.
    """
    self.path = path
    self.fps = fps
    self.reason = ''
    self.duration = math.nan
    self._folder = folder
    self._file: IO[bytes] | None = None
    self._shape = (0, 0)
    self._closed = False

  def __len__(self) -> int:
    """Returns the number of samples."""
    return self._shape[0]

  def add(self, rows: Float[np.ndarray, 'n d']) -> None:
    """Appends rows, in order; does nothing when they were removed."""
    if self._closed:
      return
    if self._file is None:
      # `close` closes it.
      self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
    self._file.write(np.ascontiguousarray(rows, np.float32).data)
    self._shape = len(self) + len(rows), rows.shape[1]

  def read(
    self, start: int = 0, stop: int | None = None
  ) -> Float[np.ndarray, 'n d']:
    """Returns the rows from `start` to `stop`, all of them if not given.

    Raises:
      ValueError: If the features were removed.
    """
    stop = len(self) if stop is None else min(stop, len(self))
    if self._closed:
      raise ValueError(f'the features of {self.path} are closed')
    found = np.empty((stop - start, self._shape[1]), np.float32)
    if self._file is not None:
      self._file.flush()
      self._file.seek(start * self._shape[1] * found.itemsize)
      self._file.readinto(found.data.cast('B'))  # type: ignore[attr-defined]
      self._file.seek(0, os.SEEK_END)
    return found

  def stretches(
    self, seconds: float = math.inf, overlap: float = 0.0
  ) -> Iterator[Stretch]:
    """Yields the features in parts, in order.

    The parts of a file have about one length, at most `seconds`, so that none
    is a short rest. Each begins `overlap` before the end of the former one.

    Args:
      seconds: Length of a part, at most.
      overlap: Seconds that two neighbours share; less than `seconds`.

    Raises:
      ValueError: If the overlap is negative or not below the length.
    """
    if not 0 <= overlap < seconds:
      raise ValueError(f'{overlap=} must be at least 0 and below {seconds=}')
    for start, stop in cuts(len(self), seconds * self.fps, overlap * self.fps):
      last = stop == len(self)
      times = (np.arange(start, stop) + 0.5) / self.fps
      yield Stretch(
        start / self.fps,
        self.duration if last else stop / self.fps,
        # A file may be shorter than half an interval.
        np.where(times < self.duration, times, self.duration / 2),
        self.read(start, stop),
        last,
        self.duration,
      )

  def close(self) -> None:
    """Removes the features."""
    self._closed = True
    if self._file is not None:
      self._file.close()


def cuts(count: int, most: float, overlap: float) -> list[tuple[int, int]]:
  """Returns (start, stop) of the parts of `count` samples.

  Args:
    count: Number of samples.
    most: Samples of a part, at most; rounded, at least 1.
    overlap: Samples that neighbours share; rounded, below the length.
  """
  if count <= most:
    return [(0, count)] if count else []
  length = max(round(most), 1)
  shared = min(round(overlap), length - 1)
  parts = math.ceil((count - shared) / (length - shared))
  # The same number of parts, of one length.
  length = math.ceil((count + (parts - 1) * shared) / parts)
  starts = range(0, count - shared, length - shared)
  return [(start, min(start + length, count)) for start in starts]


def stretches(
  path: str,
  encoder: Encoder,
  fps: float = 2.0,
  *,
  seconds: float = math.inf,
  overlap: float = 0.0,
  batch: int = 0,
  threads: int = 0,
  limits: Limits = LIMITS,
) -> Iterator[Stretch]:
  """Yields the features of one file in parts, without other processes.

  Args:
    path: The file.
    encoder: Makes the features.
    fps: Samples per second.
    seconds: Length of a part, at most, see `Encoded.stretches`.
    overlap: Seconds that two neighbours share.
    batch: Pictures that are encoded at a time; 0 for the encoder's number.
    threads: Threads of the decoder; 0 lets it choose.
    limits: How long the file may be.

  Raises:
    VideoError: If the file is no complete video, or exceeds the limits.
  """
  found = Encoded(path, fps)
  batch = batch or encoder.batch
  try:
    for event in Work.of(encoder, fps, batch, threads, limits).rows(path):
      if isinstance(event, np.ndarray):
        found.add(encoder.frames(event) if encoder.on_device else event)
      else:
        found.duration = event
    yield from found.stretches(seconds, overlap)
  finally:
    found.close()


def encode_files(
  paths: Iterable[str],
  encoder: Encoder,
  fps: float = 2.0,
  *,
  batch: int = 0,
  workers: int = 0,
  limits: Limits = LIMITS,
  folder: str | None = None,
  tell: Callable[[str, float], None] | None = None,
) -> Generator[Encoded]:
  """Yields files with their features as they are done, in any order.

  Processes decode ahead of the encoder. An encoder without a device works in
  these processes; one on a device works here, on batches of several files. A
  file that cannot be read, or ends the process that decodes it, comes with a
  `reason`; the others go on. What was yielded is removed when the next is
  asked for. Close the iterator to stop: its processes end at once.

  ```
  for found in encode_files(paths, encoder, 2.0, folder=scratch):
    if found.reason:
      print(found.path, found.reason)
    for part in found.stretches(600.0, 30.0):
      store(found.path, part.start, part.times, part.features)
  ```

  Args:
    paths: The files, each once; taken in this order. With their number known,
      no more processes are started than there are files.
    encoder: Makes the features.
    fps: Samples per second.
    batch: Pictures that are encoded at a time; 0 for the encoder's number.
    workers: Processes that decode; 0 for one per core, at most 16.
    limits: How long a file may be.
    folder: Folder of temporary files, which hold the features of the files that
      are in progress; None for the system's.
    tell: Called with a file and the seconds of it that are encoded so far.

  Raises:
    Exception: Any error that is not about a file.
  """
  cores = os.cpu_count() or 1
  workers = workers or min(16, cores)
  if isinstance(paths, Sized):
    workers = min(workers, max(len(paths), 1))
  batch = batch or encoder.batch
  # A decoder's threads share the cores with the other processes.
  work = Work.of(encoder, fps, batch, max(cores // workers, 1), limits)
  open_files: dict[str, Encoded] = {}
  packer = _Packer(encoder, batch)
  events = decoded(paths, work, workers)
  try:
    for path, event in events:
      if isinstance(event, Begun):
        if path in open_files:
          open_files.pop(path).close()
        open_files[path] = Encoded(path, fps, folder)
        continue
      found = open_files[path]
      if isinstance(event, np.ndarray):
        if encoder.on_device:
          packer.add(found, event)
        else:
          found.add(event)
        if tell is not None:
          tell(path, len(found) / fps)
      elif isinstance(event, str):
        found.reason = event
      else:
        found.duration = event
      for done in packer.finished(open_files):
        with contextlib.closing(done):
          yield done
    packer.flush()
    for done in packer.finished(open_files):
      with contextlib.closing(done):
        yield done
  finally:
    events.close()
    for found in open_files.values():
      found.close()


class _Packer:
  """Fills the batches of a device with pictures of several files."""

  def __init__(self, encoder: Encoder, batch: int):
    self._encoder = encoder
    self._batch = batch
    self._waiting: list[tuple[Encoded, np.ndarray]] = []

  def add(self, found: Encoded, images: np.ndarray) -> None:
    """Takes pictures of a file; encodes when a batch is full."""
    self._waiting.append((found, images))
    while sum(len(few) for _, few in self._waiting) >= self._batch:
      self._encode(self._batch)

  def flush(self) -> None:
    """Encodes what is left."""
    if self._waiting:
      self._encode(self._batch)

  def finished(self, files: dict[str, Encoded]) -> Iterator[Encoded]:
    """Yields the files that are read and of which no picture waits; removes
    them from `files`."""
    waiting = {id(found) for found, _ in self._waiting}
    for path, found in list(files.items()):
      ended = found.reason or not math.isnan(found.duration)
      if found.reason or (ended and id(found) not in waiting):
        del files[path]
        yield found

  def _encode(self, count: int) -> None:
    taken = []
    while self._waiting and count:
      found, images = self._waiting.pop(0)
      if len(images) > count:
        self._waiting.insert(0, (found, images[count:]))
      taken.append((found, images[:count]))
      count -= len(images[:count])
    rows = self._encoder.frames(np.concatenate([few for _, few in taken]))
    for found, few in taken:
      found.add(rows[: len(few)])
      rows = rows[len(few) :]
