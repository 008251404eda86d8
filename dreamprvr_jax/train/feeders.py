"""What the loop asks for its next updates: batches from the host, or none.

Either issues its updates before it waits for those of the call before, so the
device always has something to do, and never more than two calls are under
way: memory, and the answer to a stop request, stay bounded.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from dreamprvr_jax import parallel
from dreamprvr_jax.resident import ResidentSplit
from dreamprvr_jax.train.step import Scalars, TrainState, TrainStep, TrainSteps
from dreamprvr_jax.types import Batch


class Batches(Protocol):
  """An endless stream of one process's batches."""

  def __next__(self) -> Mapping[str, np.ndarray]: ...

  def close(self) -> None: ...


class Feeder(Protocol):
  """Makes updates on the batches of training, in their order."""

  def advance(
    self, state: TrainState, first: int, count: int
  ) -> tuple[TrainState, Scalars, int]:
    """Issues at least one and at most `count` updates; does not wait.

    Args:
      state: The state before them; donated.
      first: Number of the first batch, from the start of training.
      count: How many may be made; all in one epoch.

    Returns:
      The state behind them, their scalars (stacked if there may be several),
      how many they are.
    """
    ...

  def close(self) -> None:
    """Ends background work."""
    ...


class HostFeeder:
  """One update a call, on a batch that the host hands over.

  The next batch is on its way to the device while the current update runs.
  """

  def __init__(
    self,
    update: TrainStep,
    mesh: Mesh,
    batches_from: Callable[[int], Batches],
  ):
    """Prepares the feeder.

    Args:
      update: From `step.compile_update`.
      mesh: The device mesh.
      batches_from: Starts the endless stream of this process's batches at a
        number.
    """
    self._update, self._mesh = update, mesh
    self._batches_from = batches_from
    self._batches: Batches | None = None
    self._ready: tuple[int, Batch] | None = None
    self._before: Scalars | None = None

  def advance(
    self, state: TrainState, first: int, count: int
  ) -> tuple[TrainState, Scalars, int]:
    """See `Feeder`."""
    del count
    if self._ready is None or self._ready[0] != first:
      self.close()
      self._batches = self._batches_from(first)
      self._ready = first, self._next()
    state, scalars = self._update(state, self._ready[1])
    jax.block_until_ready(self._before)
    self._before = scalars
    self._ready = first + 1, self._next()
    return state, scalars, 1

  def _next(self) -> Batch:
    assert self._batches is not None
    # Copies are only started here.
    return Batch.from_dict(parallel.shard_rows(next(self._batches), self._mesh))

  def close(self) -> None:
    """Ends the stream; what was made ahead is dropped."""
    if self._batches is not None:
      self._batches.close()
    self._batches = self._ready = None


class DeviceFeeder:
  """Several updates a call, on batches gathered on the device."""

  def __init__(
    self,
    steps: TrainSteps,
    split: ResidentSplit,
    slots_of: Callable[[int], int],
    most: int,
  ):
    """Prepares the feeder.

    Args:
      steps: From `step.compile_steps`.
      split: What is trained on.
      slots_of: Caption slots of a batch, by its number.
      most: Updates of one call, as `steps` was compiled for.
    """
    self._steps, self._split = steps, split
    self._slots_of, self._most = slots_of, most
    self._before: Scalars | None = None

  def advance(
    self, state: TrainState, first: int, count: int
  ) -> tuple[TrainState, Scalars, int]:
    """See `Feeder`."""
    slots, done = self._slots_of(first), 1
    while done < min(count, self._most) and slots == self._slots_of(
      first + done
    ):
      done += 1
    state, scalars = self._steps(state, self._split, np.int32(done), slots)
    jax.block_until_ready(self._before)
    self._before = scalars
    return state, scalars, done

  def close(self) -> None:
    """Does nothing: there is no background work."""
