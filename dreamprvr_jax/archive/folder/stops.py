"""Requests to stop, held back while something is written."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Stops:
  """Passes Ctrl-C and SIGTERM on to their former handlers, or holds them back.

  Outside of the main thread, which alone gets signals, it does nothing.
  """

  def __init__(self):
    self._is_held = False
    self._asked: tuple[int, FrameType | None] | None = None
    self._former: dict[int, Callable[[int, FrameType | None], Any]] = {}

  def __enter__(self) -> 'Stops':
    if threading.current_thread() is threading.main_thread():
      for number in _NUMBERS:
        former = signal.getsignal(number)
        # A signal that is ignored, or ends the process, stays so.
        if callable(former):
          self._former[number] = former
          signal.signal(number, self._handle)
    return self

  def __exit__(self, *error: object) -> None:
    for number, former in self._former.items():
      signal.signal(number, former)

  @contextlib.contextmanager
  def held(self) -> Iterator[None]:
    """Holds requests back until the end of the block."""
    self._is_held = True
    try:
      yield
    finally:
      self._is_held = False
    self._pass_on()

  @contextlib.contextmanager
  def released(self) -> Iterator[None]:
    """Lets requests through in a part of a block of `held`."""
    self._is_held = False
    try:
      self._pass_on()
      yield
    finally:
      self._is_held = True

  def _handle(self, number: int, frame: FrameType | None) -> None:
    if self._is_held:
      self._asked = number, frame
    else:
      self._former[number](number, frame)

  def _pass_on(self) -> None:
    if self._asked is not None:
      (number, frame), self._asked = self._asked, None
      self._former[number](number, frame)
