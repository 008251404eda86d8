"""Runs a part of a benchmark in a process of its own.

A program that needs too much memory or time, or that is not installed, then
ends its own row of a table and no other, and its memory is its own.
"""

import importlib
import multiprocessing
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dreamprvr_jax.errors import UserError

# Bytes of a kB of the kernel.
_KB = 1024
# Seconds that a process has to end when all is done.
_GRACE = 30
# Seconds after which a watch looks again.
_EVERY = 0.2


class LeftOutError(Exception):
  """A part of a benchmark has no result; its text says why."""


def memory() -> dict[str, float]:
  """Returns bytes of this process: `peak`, the most that it had, and what it
  has now, `anonymous` (its own) and `file` (pages of files, which the kernel
  can take back)."""
  names = {'VmHWM': 'peak', 'RssAnon': 'anonymous', 'RssFile': 'file'}
  lines = pathlib.Path('/proc/self/status').read_text().splitlines()
  fields = dict(line.split(':', 1) for line in lines)
  return {
    name: int(fields[key].split()[0]) * _KB for key, name in names.items()
  }


class Watch:
  """The most memory that this process has inside a `with` block.

  Attributes:
    most: As `memory`, the most of each; `peak` is that of the whole process.
  """

  def __enter__(self) -> 'Watch':
    self.most = memory()
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._look, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._ended.set()
    self._thread.join()
    self._compare()

  def _look(self) -> None:
    while not self._ended.wait(_EVERY):
      self._compare()

  def _compare(self) -> None:
    found = memory()
    self.most = {name: max(self.most[name], found[name]) for name in found}


def read_from_disk() -> int:
  """Returns the bytes that this process has read from disks so far; pages that
  the kernel still had do not count."""
  lines = pathlib.Path('/proc/self/io').read_text().splitlines()
  return int(dict(line.split(': ') for line in lines)['read_bytes'])


def stream(
  module: str, function: str, *arguments: Any, seconds: float
) -> Iterator[Any]:
  """Yields what a generator function yields in another process.

  Args:
    module: The module of the function.
    function: Its name.
    *arguments: Its arguments; they are pickled.
    seconds: The process is ended after so many.

  Raises:
    LeftOutError: If it does not come to its end.
  """
  context = multiprocessing.get_context('spawn')
  near, far = context.Pipe(duplex=False)
  child = context.Process(
    target=_run, args=(far, module, function, arguments), daemon=True
  )
  child.start()
  far.close()
  deadline = time.monotonic() + seconds
  try:
    while True:
      if not near.poll(max(deadline - time.monotonic(), 0)):
        raise LeftOutError(f'stopped after {seconds:.0f} seconds')
      try:
        kind, content = near.recv()
      except EOFError:
        child.join()
        raise LeftOutError(_ended(child.exitcode)) from None
      if kind == 'end':
        # It may tidy up first.
        child.join(_GRACE)
        return
      if kind == 'left out':
        # What it prints about that comes first.
        child.join(_GRACE)
        raise LeftOutError(content)
      yield content
  finally:
    child.kill()
    child.join()


def _ended(code: int | None) -> str:
  if code is not None and code < 0:
    return (
      f'its process was ended by signal {-code}; perhaps the memory of this '
      'machine is too small'
    )
  return f'its process ended with code {code}; the reason is above'


def _run(
  far: Connection, module: str, function: str, arguments: tuple[Any, ...]
) -> None:
  """Calls the function and sends what it yields."""
  try:
    for item in getattr(importlib.import_module(module), function)(*arguments):
      far.send(('item', item))
  except (UserError, LeftOutError, ImportError) as error:
    far.send(('left out', ' '.join(str(error).split())))
  else:
    far.send(('end', None))
