"""Background threads that make batches ahead of time."""

import collections
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

_MOST_THREADS = 4


class Prefetcher:
  """Iterates over `make(number)` in order, some results ahead.

  Allocating memory takes most of the time of a batch, so several are made at
  once. (Old buffers cannot be used again: on a CPU, JAX arrays may share the
  memory of the numpy arrays that they are made from.) An error of `make` is
  raised when its batch is due.
  """

  def __init__(
    self, make: Callable[[int], Any], numbers: Iterator[int], ahead: int
  ):
    """Starts making.

    Args:
      make: Makes the value of a number; called from several threads.
      numbers: The numbers, possibly without end.
      ahead: How many values are made ahead of time; 0 makes each one in the
        caller's thread.
    """
    self._make = make
    self._numbers = numbers
    self._ahead = ahead
    self._jobs: collections.deque[futures.Future] = collections.deque()
    self._closed = False
    self._pool = None
    if ahead > 0:
      self._pool = futures.ThreadPoolExecutor(
        min(ahead, _MOST_THREADS), thread_name_prefix='prefetch'
      )
      self._fill()

  def _fill(self):
    assert self._pool is not None
    while len(self._jobs) < self._ahead:
      number = next(self._numbers, None)
      if number is None:
        return
      self._jobs.append(self._pool.submit(self._make, number))

  def __iter__(self):
    return self

  def __next__(self):
    if self._closed:
      raise StopIteration
    if self._pool is None:
      return self._make(next(self._numbers))
    if not self._jobs:
      raise StopIteration
    job = self._jobs.popleft()
    # Before the wait, so that the threads are never idle.
    self._fill()
    try:
      return job.result()
    except BaseException:
      self.close()
      raise

  def close(self):
    """Ends the threads; values made ahead are dropped."""
    self._closed = True
    self._jobs.clear()
    if self._pool is not None:
      self._pool.shutdown(wait=True, cancel_futures=True)
