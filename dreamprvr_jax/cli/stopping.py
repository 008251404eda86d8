"""An answer to Ctrl-C at once, even while a library computes."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_SIGNALS = bytes([signal.SIGINT, signal.SIGTERM])


@contextlib.contextmanager
def answered(sentence: Callable[[], str]) -> Iterator[None]:
  """Prints a sentence as soon as the process is told to stop.

  Python itself handles a signal only when the function of a library that runs
  has returned, which may take seconds. The sentence comes from a thread, to
  which the system's handler of signals speaks.

  Args:
    sentence: Called once, in the thread.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

  def wait() -> None:
    while (found := os.read(reader, 1)) and found not in _SIGNALS:
      pass
    if found:
      print(f'\n{sentence()}', file=sys.stderr, flush=True)

  thread = threading.Thread(target=wait, daemon=True)
  thread.start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(former)
    # The end of the pipe ends the thread.
    os.close(writer)
    thread.join()
    os.close(reader)
