"""Work on the host in several threads.

NumPy, FAISS and reading files let other threads run meanwhile.
"""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar('T')
R = TypeVar('R')

# More threads would wait for the memory.
_MOST = 8
# The processors that this process may use, at most `_MOST`.
if hasattr(os, 'sched_getaffinity'):
  THREADS = min(len(os.sched_getaffinity(0)), _MOST)
else:  # macOS and Windows.
  THREADS = min(os.cpu_count() or 1, _MOST)


def spread(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
  """Returns what work makes of each item, all at the same time. The work must
  not call this function."""
  if len(items) < 2 or THREADS < 2:
    return [work(item) for item in items]
  return list(_pool().map(work, items))


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
  return concurrent.futures.ThreadPoolExecutor(THREADS, 'search')
