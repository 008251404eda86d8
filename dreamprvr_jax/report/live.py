"""A picture that is redrawn while other code runs."""

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
  """Redraws a picture while the body runs, whenever its data has changed.

  Reading and drawing happen in a thread, because signals reach the main one,
  and once more after the body, however it ends. An error in them is logged and
  ends the drawing, not the body. Unless it is an OSError, it is raised after
  the body.

  Args:
    read: Returns the data, which is compared with the data drawn last.
    draw: Draws the data.
    seconds: Pause between two readings.
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
      # Checked before reading, so that the body's last change is drawn.
      last = over.wait(seconds)
      found = read()
      if found != drawn:
        draw(found)
        drawn = found
  except Exception as error:
    _log.exception('the picture is not drawn any more')
    if not isinstance(error, OSError):
      failures.append(error)
