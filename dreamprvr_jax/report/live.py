"""A picture that is drawn anew while something else goes on."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar('T')

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def redrawn(
  read: Callable[[], T], draw: Callable[[T], None], *, seconds: float = 3.0
) -> Iterator[None]:
  """Draws what is read, each time it has changed, while the body runs.

  Reading and drawing happen in a thread, so that the body keeps the main one,
  to which signals come; a last time after the body, whatever its end. What
  goes wrong in them is logged and ends the drawing, not the body. If it is
  more than a file that cannot be read or written, it is raised after the body.

  Args:
    read: returns what is to be drawn; compared with what was drawn last.
    draw: draws it.
    seconds: pause between two readings.
  """
  over, failures = threading.Event(), []
  thread = threading.Thread(
    target=_redraw, args=(read, draw, seconds, over, failures), daemon=True
  )
  thread.start()
  try:
    yield
  finally:
    over.set()
    thread.join()
  if failures:
    raise failures[0]


def _redraw(
  read: Callable[[], T],
  draw: Callable[[T], None],
  seconds: float,
  over: threading.Event,
  failures: list[Exception],
) -> None:
  drawn = None
  last = False
  try:
    while not last:
      # Asked before reading: what the body wrote last is still drawn.
      last = over.wait(seconds)
      found = read()
      if found != drawn:
        draw(found)
        drawn = found
  except Exception as error:
    _log.exception('the picture is not drawn any more')
    if not isinstance(error, OSError):
      failures.append(error)
