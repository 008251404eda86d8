"""Videos converted for browsers, and stretches that users save: made on demand,
and kept in a folder of limited size."""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import pathlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import BinaryIO

import anyio.to_thread

from dreamprvr_jax import folders
from dreamprvr_jax.archive.serving.files import VideoFile
from dreamprvr_jax.archive.serving.limits import Busy, Gone
from dreamprvr_jax.archive.serving.playable import PIECE_SECONDS
from dreamprvr_jax.archive.videos.cutting import EARLY, ENDING, save_clip
from dreamprvr_jax.archive.videos.files import VideoError, shown
from dreamprvr_jax.errors import UserError

_log = logging.getLogger(__name__)

# Part of the names: a new version of this program converts again.
_VERSION = 1
# Hexadecimal digits of a name.
_DIGITS = 40
# Lines of a picture that is encoded again, at most.
_LINES = 720
# Age in seconds at which a half-made file is what a killed server left.
_OLD = 24 * 3600
# The end of a file, in seconds: none is that long.
_END = 1e9


def cache_folder() -> pathlib.Path:
  """Returns the folder for converted videos of this user."""
  base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(base).expanduser() / 'dreamprvr_jax' / 'converted'


class NotConvertedError(UserError):
  """A file that cannot be converted."""


class Conversions:
  """Converts a few videos at a time; all methods belong to one event loop."""

  def __init__(
    self,
    folder: os.PathLike[str] | str,
    *,
    most_bytes: float,
    running: int,
    waiting: int,
  ):
    """Makes nothing yet, not even the folder.

    Args:
      folder: Where the videos are kept.
      most_bytes: Bytes of all of them; the ones that were not used for the
        longest time are removed.
      running: Conversions at a time.
      waiting: Conversions that run or wait, at most.
    """
    self.folder, self.most_bytes = pathlib.Path(folder), most_bytes
    self._running, self._waiting = running, waiting
    self._asked = 0
    self._turns: asyncio.Semaphore | None = None
    self._locks: dict[pathlib.Path, asyncio.Lock] = {}

  async def whole(
    self, file: VideoFile, gone: Callable[[], Awaitable[bool]]
  ) -> BinaryIO:
    """Returns a whole file as MP4, with its pictures copied, open.

    Raises:
      NotConvertedError: If its pictures cannot be copied; also see `piece`.
    """
    make = lambda out: save_clip(file.path, 0.0, _END, out, copies=True)
    return await self._found(file, ['whole'], make, gone)

  async def piece(
    self, file: VideoFile, number: int, gone: Callable[[], Awaitable[bool]]
  ) -> BinaryIO:
    """Returns a piece of a file as MP4 that every browser plays, open.

    Args:
      file: The file.
      number: The number of the piece, from 0; each has `PIECE_SECONDS`.
      gone: Returns whether the client has left, so that nothing is made.

    Raises:
      Busy: If too many conversions wait.
      Gone: If the client has left.
      NotConvertedError: If the file cannot be decoded, or has no such piece.
      UserError: If the folder cannot be used.
    """
    start = number * PIECE_SECONDS
    make = lambda out: save_clip(
      file.path, start, start + PIECE_SECONDS, out, copies=False, lines=_LINES
    )
    return await self._found(file, ['piece', number], make, gone)

  async def clip(
    self,
    file: VideoFile,
    start: float,
    end: float,
    gone: Callable[[], Awaitable[bool]],
  ) -> BinaryIO:
    """Returns a stretch of a file as MP4, open; it may begin a little earlier
    to copy the pictures. See `piece`."""
    make = lambda out: save_clip(file.path, start, end, out, early=EARLY)
    return await self._found(file, ['clip', start, end], make, gone)

  async def _found(
    self,
    file: VideoFile,
    what: list[str | float],
    make: Callable[[pathlib.Path], object],
    gone: Callable[[], Awaitable[bool]],
  ) -> BinaryIO:
    """Returns a converted file; makes it if it is missing."""
    place = self._place(file, what)
    opened = await anyio.to_thread.run_sync(_used, place)
    if opened:
      return opened
    async with self._turn(place):
      opened = await anyio.to_thread.run_sync(_used, place)
      if opened:
        return opened
      if await gone():
        raise Gone
      began = time.perf_counter()
      opened = await anyio.to_thread.run_sync(self._made, file, place, make)
      _log.info(
        'converted %s (%s) in %.1f s',
        shown(file.path.name),
        ' '.join(map(str, what)),
        time.perf_counter() - began,
      )
      return opened

  @contextlib.asynccontextmanager
  async def _turn(self, place: pathlib.Path) -> AsyncIterator[None]:
    """Waits until a file may be made; one that is being made is waited for."""
    if self._asked >= self._waiting:
      raise Busy('too many videos are waiting to be converted')
    self._turns = self._turns or asyncio.Semaphore(self._running)
    self._asked += 1
    lock = self._locks.setdefault(place, asyncio.Lock())
    try:
      async with lock, self._turns:
        yield
    finally:
      self._asked -= 1
      if not self._asked:
        self._locks.clear()

  def _place(self, file: VideoFile, what: list[str | float]) -> pathlib.Path:
    facts = file.path.stat()
    told = [
      _VERSION,
      os.fsencode(file.path).hex(),
      facts.st_size,
      facts.st_mtime_ns,
      *what,
    ]
    name = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:_DIGITS]
    return self.folder / f'{name}{ENDING}'

  def _made(
    self,
    file: VideoFile,
    place: pathlib.Path,
    make: Callable[[pathlib.Path], object],
  ) -> BinaryIO:
    # What is converted is for those who may read the videos.
    self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folders.claim(self.folder, 'converted videos')
    try:
      make(place)
    except VideoError as error:
      name = shown(file.path.name)
      raise NotConvertedError(
        f'{name} cannot be converted: it {error.reason}'
      ) from error
    opened = place.open('rb')
    self._tidy(place)
    return opened

  def _tidy(self, newest: pathlib.Path) -> None:
    """Removes the files that were not used for the longest time."""
    found = []
    for path in self.folder.glob(f'*{ENDING}'):
      # Another server may share the folder.
      with contextlib.suppress(FileNotFoundError):
        facts = path.stat()
        if len(path.stem) == _DIGITS and path != newest:
          found.append((facts.st_mtime, facts.st_size, path))
        elif '.partial.' in path.name and facts.st_mtime < time.time() - _OLD:
          path.unlink()
    left = self.most_bytes - newest.stat().st_size
    for _, size, path in sorted(found, reverse=True):
      left -= size
      if left < 0:
        path.unlink(missing_ok=True)


def _used(place: pathlib.Path) -> BinaryIO | None:
  """Returns a kept file, open and marked as used; None if there is none."""
  try:
    opened = place.open('rb')
  except FileNotFoundError:
    return None
  now = time.time()
  with contextlib.suppress(OSError):
    os.utime(place, (now, now))
  return opened
