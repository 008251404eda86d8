"""The scalars of updates, read late so that no update waits for them."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.train.metric_log import MetricLog
from dreamprvr_jax.train.step import Scalars


class NotFiniteError(UserError):
  """A loss or gradient became NaN or infinite; names it.

  Attributes:
    step: Number of the update; the state before it is the last good one.
  """

  def __init__(self, step: int, epoch: int, scalars: dict[str, float]):
    super().__init__(step, epoch, scalars)
    self.step, self._epoch, self._scalars = step, epoch, scalars

  def __str__(self) -> str:
    bad = [n for n, v in self._scalars.items() if not np.isfinite(v)]
    terms = [n for n in bad if n not in ('loss/total', 'gradient_norm')]
    named = ', '.join(terms or bad)
    return (
      f'{named} became NaN or infinite at step {self.step} (epoch '
      f'{self._epoch}); the state before that step is saved. Try a lower '
      "config.optimizer.lr, or config.dtype='float32'"
    )


@dataclasses.dataclass(frozen=True)
class _Call:
  """Updates issued together: `count` of them, from number `first` on."""

  first: int
  count: int
  scalars: Scalars
  rate: Any  # learning rate of the last one, if it has a row


class StepLog:
  """Checks every update and writes the row of some."""

  def __init__(
    self,
    log: MetricLog,
    learning_rate: Callable[[Any], Any],
    log_every: int,
    steps_per_epoch: int,
  ):
    """Starts without scalars.

    Args:
      log: The log that rows are written to.
      learning_rate: Rate by update number.
      log_every: Steps between two rows; the end of an epoch has a row, too.
      steps_per_epoch: Updates of an epoch.
    """
    self._log, self._learning_rate = log, learning_rate
    self._every, self._steps_per_epoch = log_every, steps_per_epoch
    self._calls: list[_Call] = []
    self._began, self._first = 0.0, 0

  def begin(self, step: int) -> None:
    """Starts the clock of an epoch, or of the rest of one."""
    self._began, self._first = time.monotonic(), step

  def due(self, step: int) -> bool:
    """Returns whether there is a row once `step` updates are made."""
    return step % self._every == 0 or step % self._steps_per_epoch == 0

  def add(self, first: int, count: int, scalars: Scalars) -> None:
    """Adds the scalars of issued updates; does not wait for them."""
    step = first + count
    # Computed now: later it would wait behind updates that are issued later.
    rate = self._learning_rate(step - 1) if self.due(step) else None
    self._calls.append(_Call(first, count, scalars, rate))

  def settle(self, leave: int = 0) -> dict[str, Any] | None:
    """Checks all updates but those of the newest `leave` calls.

    Returns:
      The newest row that was written, or None.

    Raises:
      NotFiniteError: If an update was not finite.
    """
    count = len(self._calls) - leave
    calls, self._calls = self._calls[:count], self._calls[count:]
    found = jax.device_get([(call.scalars, call.rate) for call in calls])
    row = None
    for call, (values, rate) in zip(calls, found, strict=True):
      scalars = self._newest(call, values)
      if rate is not None:
        row = self._write(call.first + call.count, float(rate), scalars)
    return row

  def _newest(self, call: _Call, values: dict[str, Any]) -> dict[str, float]:
    """Returns the scalars of a call's last update; all must be finite."""
    scalars: dict[str, float] = {}
    for i in range(call.count):
      scalars = {n: float(np.atleast_1d(v)[i]) for n, v in values.items()}
      if not scalars.pop('alive'):
        step = call.first + i
        raise NotFiniteError(step, step // self._steps_per_epoch + 1, scalars)
    return scalars

  def _write(
    self, step: int, rate: float, scalars: dict[str, float]
  ) -> dict[str, Any]:
    row = {
      'step': step,
      'epoch': (step - 1) // self._steps_per_epoch + 1,
      'lr': rate,
      **scalars,
      'seconds_per_step': (time.monotonic() - self._began)
      / (step - self._first),
    }
    self._log.write('train', row)
    return row
