"""The training loop: epochs, evaluation, early stopping, exact resume.

A run starts from the newest checkpoint of its workdir, mid-epoch ones included,
or from initial values by the seed.

At the end of an epoch it evaluates, saves the weights if they are the best, and
saves the state. A run that is killed between any two of these repeats the
unsaved part with the same numbers, because batches and random bits are
functions of the step.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dreamprvr_jax.checkpoints import RunCheckpoints
from dreamprvr_jax.progress import Stopped, bar
from dreamprvr_jax.train.feeders import Feeder
from dreamprvr_jax.train.metric_log import MetricLog
from dreamprvr_jax.train.signals import StopRequest
from dreamprvr_jax.train.step import TrainState
from dreamprvr_jax.train.step_log import NotFiniteError, StepLog

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LoopOptions:
  """Numbers of the loop, in epochs or steps.

  Attributes:
    epochs: Epochs at most.
    steps_per_epoch: Updates in an epoch.
    patience: Training stops after more than this many epochs in a row
      without a new best: of SumR, or of its mean over `smoothing` epochs.
    smoothing: Epochs of that mean; 1 for none.
    log_every: Steps between two logged rows.
    checkpoint_every: Steps between two checkpoints within an epoch; 0 for
      none.
    show: Whether progress bars are shown.
  """

  epochs: int
  steps_per_epoch: int
  patience: int
  log_every: int
  checkpoint_every: int
  smoothing: int = 1
  show: bool = True


@dataclasses.dataclass
class LoopPosition:
  """Where a run is; saved with the state.

  Attributes:
    step: Updates made, which is also the position of the batch iterator.
    evaluated_epochs: Epochs whose evaluation is done.
    failures: Epochs in a row without a new best mean.
    best: {'SumR', 'epoch', 'step', ...} of the best epoch, or None.
    recent: SumR of the last epochs, as many as the mean is over at most.
    best_mean: Best mean so far, None before it is over all its epochs.
  """

  step: int = 0
  evaluated_epochs: int = 0
  failures: int = 0
  best: dict[str, Any] | None = None
  recent: list[float] = dataclasses.field(default_factory=list)
  best_mean: float | None = None

  def count(self, score: float, smoothing: int) -> None:
    """Counts an epoch with a SumR as a failure, or begins the count again.

    One epoch's SumR on few queries is mostly noise: a lucky one early on would
    stop a run that still learns. A mean is compared once it is full.
    """
    self.recent = [*self.recent, score][-smoothing:]
    mean = sum(self.recent) / smoothing
    if len(self.recent) < smoothing:
      return
    if self.best_mean is None or mean > self.best_mean:
      self.failures, self.best_mean = 0, mean
    else:
      self.failures += 1


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a run ended.

  Attributes:
    status: 'finished', 'early' (patience ran out) or 'interrupted'.
    position: Where it ended.
  """

  status: str
  position: LoopPosition


class Loop:
  """One run; `run` returns at its end or after a stop request."""

  def __init__(
    self,
    *,
    feeder: Feeder,
    state: TrainState,
    evaluate: Callable[[Any, Callable[[], bool]], dict[str, Any]],
    learning_rate: Callable[[Any], Any],
    checkpoints: RunCheckpoints,
    log: Callable[[int], MetricLog],
    stop: StopRequest,
    options: LoopOptions,
  ):
    """Prepares a run.

    Args:
      feeder: Makes the updates.
      state: Initial state, replicated over the mesh.
      evaluate: From variables and a stop question to metrics with `SumR`.
      learning_rate: Rate by update number, for the log.
      checkpoints: The run's checkpoints; the newest one is resumed from.
      log: Opens the metric log of a run that is at a step.
      stop: The stop request, which is read between steps.
      options: Numbers.
    """
    self._feeder, self._options = feeder, options
    self._evaluate = evaluate
    self._stop, self._checkpoints = stop, checkpoints
    self._state, self._position = state, LoopPosition()
    if checkpoints.latest_step() is not None:
      self._state, loop = checkpoints.restore_latest(state)
      self._position = LoopPosition(**loop)
      _log.info(
        'resuming at step %d (epoch %d of %d)',
        self._position.step,
        self._position.step // options.steps_per_epoch,
        options.epochs,
      )
    self._log = log(self._position.step)
    self._steps = StepLog(
      self._log, learning_rate, options.log_every, options.steps_per_epoch
    )
    self._saved_step = checkpoints.latest_step()

  def run(self) -> Outcome:
    """Trains and evaluates until the end, early stopping, or a stop request.

    Raises:
      NotFiniteError: If a loss or gradient is not finite; the last good
        state is saved first.
    """
    try:
      while (status := self._status()) is None:
        position = self._position
        done = position.step // self._options.steps_per_epoch
        if done > position.evaluated_epochs:
          if not self._finish_epoch(done):
            status = 'interrupted'
            break
          continue
        if not self._train_epoch(done):
          status = 'interrupted'
          break
      if status == 'interrupted':
        self._save()
    except NotFiniteError as error:
      self._keep_last_good(error.step)
      raise
    finally:
      self._feeder.close()
      try:
        self._checkpoints.wait()
      finally:
        self._log.close()
    return Outcome(status, self._position)

  def _status(self) -> str | None:
    """Returns how the run has ended, or None while it goes on."""
    position, options = self._position, self._options
    if position.failures > options.patience:
      return 'early'
    if position.evaluated_epochs >= options.epochs:
      return 'finished'
    return None

  def _train_epoch(self, epoch: int) -> bool:
    """Trains to the end of `epoch`; returns False if stopped before."""
    options, position = self._options, self._position
    end = (epoch + 1) * options.steps_per_epoch
    self._steps.begin(position.step)
    with bar(
      (),
      f'epoch {epoch + 1}/{options.epochs}',
      show=options.show,
      initial=position.step - epoch * options.steps_per_epoch,
      total=options.steps_per_epoch,
      unit='step',
    ) as progress:
      while position.step < end:
        owed = self._steps.due(position.step)
        self._state, scalars, done = self._feeder.advance(
          self._state, position.step, self._most_updates(position.step)
        )
        self._steps.add(position.step, done, scalars)
        position.step += done
        progress.update(done)
        # With several processes the answer is a collective: not every step.
        ask = self._steps.due(position.step) or jax.process_count() == 1
        stop = ask and self._stop.agreed()
        every = options.checkpoint_every
        save = every and position.step % every == 0 and position.step != end
        row = None
        if stop or save or position.step == end:
          row = self._steps.settle()
        elif owed:
          # The newest call is not waited for: it keeps the device busy.
          row = self._steps.settle(leave=1)
        if row:
          progress.set_postfix(loss=f'{row["loss/total"]:.4g}')
        if stop:
          return False
        if save:
          self._save()
    return True

  def _most_updates(self, step: int) -> int:
    """Returns the updates until the next row, checkpoint or end of epoch."""
    options = self._options
    lengths = (
      options.steps_per_epoch,
      options.log_every,
      options.checkpoint_every,
    )
    return min(length - step % length for length in lengths if length)

  def _keep_last_good(self, step: int) -> None:
    """Saves the state before update `step`, which was not finite."""
    # The state stopped changing at that step: it is the last good one.
    self._position.step = step
    self._state = dataclasses.replace(
      self._state, alive=jnp.ones_like(self._state.alive)
    )
    self._save()

  def _finish_epoch(self, done: int) -> bool:
    """Evaluates after `done` epochs; returns False if stopped meanwhile."""
    began = time.monotonic()
    try:
      metrics = self._evaluate(
        self._state.variables(), lambda: self._stop_now()
      )
    except Stopped:
      return False
    position = self._position
    position.evaluated_epochs = done
    is_best = position.best is None or metrics['SumR'] > position.best['SumR']
    position.count(metrics['SumR'], self._options.smoothing)
    if is_best:
      position.best = {
        'epoch': done,
        'step': position.step,
        'split': metrics['split'],
        'SumR': metrics['SumR'],
      }
      self._checkpoints.save_best(
        position.step,
        self._state.variables(),
        {**position.best, 'metrics': metrics},
      )
    flat = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
    self._log.write(
      'eval',
      {
        'step': position.step,
        'epoch': done,
        'split': metrics['split'],
        **flat,
        'seconds': time.monotonic() - began,
      },
    )
    assert position.best is not None
    over = self._options.smoothing
    over = f' mean over {over}' if over > 1 else ''
    _log.info(
      'epoch %d: %s SumR %.1f (R@1 %.1f, R@10 %.1f, R@100 %.1f), best %.1f of '
      'epoch %d%s',
      done,
      metrics['split'],
      metrics['SumR'],
      metrics['R@1'],
      metrics['R@10'],
      metrics['R@100'],
      position.best['SumR'],
      position.best['epoch'],
      f' ({position.failures} without a new best{over})'
      if position.failures
      else '',
    )
    self._save(again=True)
    return True

  def _stop_now(self) -> bool:
    # A collective inside an evaluation is safe: all processes run the same
    # batches in the same order.
    return self._stop.agreed()

  def _save(self, again: bool = False) -> None:
    """Saves state and position, once a step unless `again`."""
    step = self._position.step
    if self._saved_step == step and not again:
      return
    self._checkpoints.save_latest(
      step, self._state, dataclasses.asdict(self._position)
    )
    self._saved_step = step
