"""A server reads all files of its index, slowly, to find damaged ones."""

import logging
import os
import sys
import threading
import time

from dreamprvr_jax.archive.index.files import DamagedError
from dreamprvr_jax.archive.index.manifest import MANIFEST, Manifest
from dreamprvr_jax.archive.index.segments import verify
from dreamprvr_jax.errors import UserError

_log = logging.getLogger(__name__)

# Bytes that a server reads in a second.
_PACE = 32 * 2**20
# Seconds between two looks for new files, and between two readings of a file.
_LOOK, _AGAIN = 60.0, 7 * 24 * 3600.0


class _Stopped(Exception):
  """The thread is to end."""


class Background:
  """Reads the files of an index in a thread of low priority.

  New files are read soon, all others once a week.

  Attributes:
    read: Bytes read so far.
  """

  def __init__(
    self,
    directory: os.PathLike[str] | str,
    *,
    pace: float = _PACE,
    look: float = _LOOK,
  ):
    """Starts nothing yet.

    Args:
      directory: The index.
      pace: Bytes that are read in a second, at most.
      look: Seconds between two looks for new files.
    """
    self.read = 0
    self._directory, self._pace, self._look = directory, pace, look
    self._done: dict[str, float] = {}
    self._damaged: dict[str, list[DamagedError]] = {}
    self._end = threading.Event()
    self._thread = threading.Thread(
      target=self._run, name='verification', daemon=True
    )

  @property
  def damaged(self) -> list[str]:
    """The damaged files that were found, by their paths below the index."""
    found = [error for errors in self._damaged.values() for error in errors]
    return sorted(
      os.path.relpath(error.path, self._directory) for error in found
    )

  def start(self) -> None:
    """Starts the thread."""
    self._thread.start()

  def stop(self) -> None:
    """Ends the thread."""
    self._end.set()
    self._thread.join()

  def _run(self) -> None:
    if sys.platform == 'linux':
      # There, threads have priorities of their own.
      os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    complaint = ''
    while not self._end.is_set():
      try:
        self._look_around()
        complaint = ''
      except _Stopped:
        return
      except (UserError, OSError) as error:
        if str(error) != complaint:
          complaint = str(error)
          _log.error('the files of the index cannot be checked: %s', error)
        if isinstance(error, DamagedError):
          self._damaged = {**self._damaged, MANIFEST: [error]}
      self._end.wait(self._look)

  def _look_around(self) -> None:
    """Reads the folders that are due."""
    named = Manifest.read(self._directory).files
    # Not changed in place: other threads read it.
    self._damaged = {f: x for f, x in self._damaged.items() if f in named}
    self._done = {f: x for f, x in self._done.items() if f in named}
    for folder, files in named.items():
      last = self._done.get(folder)
      if last is not None and time.monotonic() < last + _AGAIN:
        continue
      errors = []
      for error in verify(self._directory, folder, files, self._count):
        _log.error('%s', error)
        errors.append(error)
        self._damaged = {**self._damaged, folder: errors}
      self._damaged = {**self._damaged, folder: errors}
      self._done[folder] = time.monotonic()

  def _count(self, count: int) -> None:
    """Takes as long as the bytes that were read may take."""
    self.read += count
    if self._end.wait(count / self._pace):
      raise _Stopped
