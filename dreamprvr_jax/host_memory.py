"""Host memory: how much is free, and keeping what malloc frees.

It needs the standard library alone, so every package may use it.
"""

import ctypes
import os
import sys

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def size_text(size: float) -> str:
  """Returns a number of bytes for people: '1.50 GiB', or '0.3 MiB' below one
  GiB."""
  gib = size / 2**30
  return f'{gib:.2f} GiB' if gib >= 1 else f'{size / 2**20:.1f} MiB'


def available_memory() -> int | None:
  """Returns the bytes of host memory that arrays may take; None if unknown.

  On Linux this is the kernel's own estimate, which counts the page cache that
  it would give up. Elsewhere it is the free pages.
  """
  try:
    with open('/proc/meminfo') as file:
      lines = file.read().splitlines()
  except OSError:
    # Not Linux.
    lines = []
  for line in lines:
    if line.startswith('MemAvailable:'):
      return int(line.split()[1]) * 1024
  names = getattr(os, 'sysconf_names', {})
  if not {'SC_AVPHYS_PAGES', 'SC_PAGE_SIZE'} <= names.keys():
    return None
  return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def keep_freed_pages() -> bool:
  """Makes malloc reuse large blocks; returns whether the C library can.

  XLA's CPU backend allocates its temporaries at every call. By default glibc
  takes each large block from the system and gives it back, and the pages are
  faulted in again.
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
      # -1, read as an unsigned size, means never.
      (_TRIM_THRESHOLD, -1),
      (_ARENA_MAX, 1),
    )
  )
