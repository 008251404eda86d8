"""Processes that decode video files ahead of the one that uses the pictures.

A damaged file may end the process that decodes it. Each process works on one
file at a time, so it is known which file that was.
"""

import contextlib
import copy
import dataclasses
import itertools
import multiprocessing
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from dreamprvr_jax.archive.encoders import Encoder
from dreamprvr_jax.archive.videos.files import VideoError
from dreamprvr_jax.archive.videos.frames import LIMITS, Limits, Video

# The reason of a file that ends the process that decodes it.
DEADLY = 'ends the process that decodes it; encode it again'
# Pieces of work that wait in the queue, for each process.
_AHEAD = 2
# Pictures that are sent at a time, at most: they wait in memory.
_SENT = 16
# Seconds after which a thread looks whether it should stop.
_PATIENCE = 0.1


@dataclasses.dataclass(frozen=True)
class Work:
  """What a process does with a file, in values that can be sent to it.

  Attributes:
    size: Takes (height, width) of a picture as shown; returns those to which it
      is decoded.
    prepare: Applied to each decoded picture.
    encoder: Encodes the pictures in the process; None to send them as they are.
    fps: Samples per second.
    batch: Pictures that are encoded or sent at a time.
    threads: Threads of the decoder; 0 lets it choose.
    limits: How long a file may be.
  """

  size: Callable[[int, int], tuple[int, int]]
  prepare: Callable[[np.ndarray], np.ndarray]
  encoder: Encoder | None
  fps: float
  batch: int
  threads: int = 0
  limits: Limits = LIMITS

  @classmethod
  def of(
    cls,
    encoder: Encoder,
    fps: float,
    batch: int,
    threads: int = 0,
    limits: Limits = LIMITS,
  ) -> 'Work':
    """Returns the work for an encoder: all of it, or what comes before the
    device."""
    return cls(
      encoder.size,
      encoder.prepare,
      None if encoder.on_device else encoder,
      fps,
      min(batch, _SENT) if encoder.on_device else batch,
      threads,
      limits,
    )

  def rows(self, path: str) -> Iterator[np.ndarray | float]:
    """Yields features or pictures of a file, an array per batch, and at last
    the seconds that the file lasts.

    Raises:
      VideoError: If the file is no complete video, or exceeds the limits.
    """
    video = Video(
      path, self.fps, self.size, threads=self.threads, limits=self.limits
    )
    samples, before = video.samples(), None
    prepared = (self.prepare(sample.image) for sample in samples)
    while few := list(itertools.islice(prepared, self.batch)):
      images = np.stack(few)
      yield self.encoder.frames(images, before) if self.encoder else images
      before = images[-1]
    yield float(video.duration)


@dataclasses.dataclass(frozen=True)
class Begun:
  """A file is read from its beginning; what came of it before does not count,
  because the process that read it has ended."""


# A file has the events Begun, then arrays, then its seconds, or the reason why
# it cannot be read.
Event = Begun | np.ndarray | float | str


def decoded(
  paths: Iterable[str], work: Work, workers: int
) -> Generator[tuple[str, Event]]:
  """Yields what several processes make of files: each path with its events.

  The events of one file are in order; those of different files are mixed.
  Memory is bounded: the processes wait when nobody takes their results.

  Args:
    paths: The files, taken in this order.
    work: What to do with each.
    workers: Number of processes.

  Raises:
    Exception: Any error in a process that is not about its file.
  """
  feed = _Feed(iter(paths), work, _AHEAD * workers)
  threads = [
    threading.Thread(target=feed.run, daemon=True) for _ in range(workers)
  ]
  try:
    for thread in threads:
      thread.start()
    while feed.ended < workers or not feed.events.empty():
      yield from feed.taken()
  finally:
    feed.stop.set()
    feed.end_processes()
    for thread in threads:
      thread.join()


class _Feed:
  """What the threads share, each of which speaks with one process."""

  def __init__(self, paths: Iterator[str], work: Work, ahead: int):
    self.events: queue.Queue[tuple[str, Event] | Exception] = queue.Queue(ahead)
    self.stop = threading.Event()
    # How many threads.
    self.ended = 0
    self._paths = paths
    self._work = work
    self._lock = threading.Lock()
    self._processes: set[_Process] = set()

  def taken(self) -> Iterator[tuple[str, Event]]:
    """Yields the next event, if one comes soon."""
    with contextlib.suppress(queue.Empty):
      found = self.events.get(timeout=_PATIENCE)
      if isinstance(found, Exception):
        raise found
      yield found

  def run(self) -> None:
    """Lets one process after the other work on files; runs in a thread."""
    process = None
    try:
      while (path := self._next()) is not None and not self.stop.is_set():
        process = self._file(path, process)
    except Exception as error:
      self._put(error)
    finally:
      # After an error it has been ended already, which does no harm.
      if process is not None:
        self._end(process)
      with self._lock:
        self.ended += 1

  def end_processes(self) -> None:
    """Ends all processes, whatever they do; their threads notice."""
    with self._lock:
      for process in self._processes:
        process.stop()

  def _next(self) -> str | None:
    with self._lock:
      return next(self._paths, None)

  def _file(self, path: str, process: '_Process | None') -> '_Process | None':
    """Puts the events of a file; returns the process for the next one."""
    for _ in range(2):
      process = process or self._started()
      self._put((path, Begun()))
      try:
        for event in process.work(path):
          self._put((path, event))
          if self.stop.is_set():
            break
        return process
      except (EOFError, ConnectionError):
        self._end(process)
        process = None
        if self.stop.is_set():
          return None
      except Exception:
        self._end(process)
        raise
    self._put((path, DEADLY))
    return None

  def _started(self) -> '_Process':
    process = _Process(self._work)
    with self._lock:
      self._processes.add(process)
      if self.stop.is_set():
        # It has started too late for `end_processes`.
        process.stop()
    return process

  def _end(self, process: '_Process') -> None:
    with self._lock:
      self._processes.discard(process)
    process.end()

  def _put(self, event: tuple[str, Event] | Exception) -> None:
    while not self.stop.is_set():
      with contextlib.suppress(queue.Full):
        self.events.put(event, timeout=_PATIENCE)
        return


class _Process:
  """A process that works on one file at a time."""

  def __init__(self, work: Work):
    # Threads and the state of an accelerator do not survive a fork.
    context = multiprocessing.get_context('spawn')
    self._connection, other = context.Pipe()
    self._process = context.Process(
      target=_serve, args=(other, work), daemon=True
    )
    self._process.start()
    other.close()
    try:
      self._connection.recv()
    except (EOFError, ConnectionError):
      self.end()
      # That is not the fault of a file.
      raise RuntimeError(
        'a process that decodes videos ended while it started'
      ) from None

  def work(self, path: str) -> Iterator[Event]:
    """Yields the events of a file.

    Raises:
      EOFError, ConnectionError: If the process ends.
      Exception: An error of the program in the process.
    """
    self._connection.send(path)
    while True:
      found = self._connection.recv()
      if isinstance(found, Exception):
        raise found
      yield found
      if not isinstance(found, np.ndarray):
        return

  def stop(self) -> None:
    """Ends the process soon."""
    self._process.terminate()

  def end(self) -> None:
    """Ends the process and waits for that."""
    self._process.terminate()
    self._process.join()
    self._connection.close()


def _serve(connection: Connection, work: Work) -> None:
  """Works on the files that the parent names, until it closes the pipe."""
  end_silently()
  connection.send(None)
  with contextlib.suppress(EOFError, ConnectionError):
    while True:
      path = connection.recv()
      for result in _results(work, path):
        connection.send(result)


def _results(work: Work, path: str) -> Iterator[Any]:
  """Yields the events of a file, or an exception that can be sent."""
  try:
    yield from work.rows(path)
  except VideoError as error:
    yield error.reason
  except Exception as error:
    if is_sendable(error):
      error.add_note(traceback.format_exc())
      yield error
    else:
      yield RuntimeError(traceback.format_exc())


def is_sendable(error: Exception) -> bool:
  """Returns whether an error can be sent to another process; one that cannot
  would end the connection."""
  try:
    copy.copy(error)
  except Exception:  # A constructor may raise anything.
    return False
  return True


def end_silently() -> None:
  """Lets Ctrl-C end this process without a word; the parent reports it."""
  if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
