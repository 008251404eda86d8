"""Keeping freed memory in the process, where the CPU is the accelerator."""

import ctypes
import sys

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_pages() -> bool:
  """Makes malloc reuse large blocks; returns whether the C library knows how.

  XLA's CPU backend asks for its temporaries anew at every call. By default
  glibc takes each large block from the system and gives it back, and the pages
  are faulted in again. `benchmarks/train_step.py --default-malloc` shows what
  that costs on a machine.
  """
  if not sys.platform.startswith('linux'):
    return False
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return False
  return all(
    mallopt(name, value) == 1
    for name, value in (
      (_MMAP_MAX, 0),
      # Minus one, as the size that it becomes: never.
      (_TRIM_THRESHOLD, -1),
      (_ARENA_MAX, 1),
    )
  )


def available_bytes() -> int | None:
  """Returns the bytes of host memory that may be taken, None if unknown."""
  try:
    with open('/proc/meminfo') as file:
      lines = file.read().splitlines()
  except OSError:
    return None
  for line in lines:
    if line.startswith('MemAvailable:'):
      return int(line.split()[1]) * 1024
  return None
