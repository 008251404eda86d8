"""Stopping a run cleanly on SIGTERM or Ctrl-C."""

import signal
from types import FrameType

import jax
import numpy as np

from dreamprvr_jax.devices.gathering import gather


class StopRequest:
  """Remembers that a signal asked the run to stop.

  The first signal only sets a flag, which the loop reads between two steps. A
  second Ctrl-C interrupts at once. It is a context manager that restores the
  former handlers at its end.
  """

  def __init__(self):
    self.signal: signal.Signals | None = None
    self._former = {}

  def __enter__(self) -> 'StopRequest':
    for number in (signal.SIGTERM, signal.SIGINT):
      self._former[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, *exception: object) -> None:
    for number, handler in self._former.items():
      signal.signal(number, handler)

  def _handle(self, number: int, frame: FrameType | None) -> None:
    del frame
    if self.signal is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.signal = signal.Signals(number)

  def __bool__(self) -> bool:
    return self.signal is not None

  def agreed(self) -> bool:
    """Returns whether any process was asked to stop.

    Every process must call it at the same point; with one process it is the
    flag itself.
    """
    if jax.process_count() == 1:
      return bool(self)
    return bool(np.any(gather(np.asarray(bool(self)))))
