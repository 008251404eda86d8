"""Feeders make the updates of training: one by one, or several at a time.

A feeder issues its updates before it waits for those of the call before, so
the device always has work. At most two calls are under way, which bounds the
memory and the time until a stop request is answered.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.devices.resident import Gather, ResidentSplit
from dreamprvr_jax.train.step import Scalars, TrainState, TrainStep, TrainSteps
from dreamprvr_jax.types import Batch


class Feeder(Protocol):
  """Makes updates on the batches of training, in their order."""

  def advance(
    self, state: Any, first: int, count: int
  ) -> tuple[Any, Scalars, int]:
    """Issues at least one and at most `count` updates; does not wait.

    Args:
      state: The state before them; donated.
      first: Number of the first batch, from the start of training.
      count: The most updates, all in one epoch.

    Returns:
      The state after them, their scalars (stacked if there may be several),
      and their number.
    """
    ...

  def close(self) -> None:
    """Ends background work."""
    ...


class Batches(Protocol):
  """An endless stream of batches, on the devices or on their way there."""

  def __next__(self) -> Batch: ...

  def close(self) -> None: ...


class HostStream(Protocol):
  """An endless stream of one process's rows in host memory."""

  def __next__(self) -> Mapping[str, np.ndarray]: ...

  def close(self) -> None: ...


class HostBatches:
  """Batches that the host makes; their copies are only started here."""

  def __init__(self, stream: HostStream, mesh: Mesh):
    self._stream, self._mesh = stream, mesh

  def __next__(self) -> Batch:
    return Batch.from_dict(meshes.shard_rows(next(self._stream), self._mesh))

  def close(self) -> None:
    """Ends the stream."""
    self._stream.close()


class GatheredBatches:
  """Batches that the devices gather from their copies of a split."""

  def __init__(
    self,
    gather: Gather,
    split: ResidentSplit,
    slots_of: Callable[[int], int],
    position: int,
  ):
    """Starts at batch `position`.

    Args:
      gather: From `resident.compile_gather`.
      split: The training split.
      slots_of: Caption slots of a batch, by its number.
      position: Number of the first batch.
    """
    self._gather, self._split = gather, split
    self._slots_of, self._position = slots_of, position

  def __next__(self) -> Batch:
    number = self._position
    self._position += 1
    return self._gather(self._split, np.int32(number), self._slots_of(number))

  def close(self) -> None:
    """Does nothing: it has no background work."""


class BatchFeeder:
  """One update a call; the next batch is made while it runs."""

  def __init__(self, update: TrainStep, batches_from: Callable[[int], Batches]):
    """Prepares the feeder.

    Args:
      update: From `step.compile_update`.
      batches_from: Starts the stream of batches at a number.
    """
    self._update, self._batches_from = update, batches_from
    self._batches: Batches | None = None
    self._ready: tuple[int, Batch] | None = None
    self._before: Scalars | None = None

  def advance(
    self, state: TrainState, first: int, count: int
  ) -> tuple[TrainState, Scalars, int]:
    """See `Feeder`."""
    del count
    if self._batches is None or self._ready is None or self._ready[0] != first:
      self.close()
      self._batches = self._batches_from(first)
      self._ready = first, next(self._batches)
    state, scalars = self._update(state, self._ready[1])
    jax.block_until_ready(self._before)
    self._before = scalars
    self._ready = first + 1, next(self._batches)
    return state, scalars, 1

  def close(self) -> None:
    """Ends the stream and drops the batch that was made ahead."""
    if self._batches is not None:
      self._batches.close()
    self._batches = self._ready = None


class SplitFeeder:
  """Several updates a call, in a program that gathers the batches itself."""

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
      split: The training split.
      slots_of: Caption slots of a batch, by its number.
      most: Updates of one call, as `steps` was compiled for.
    """
    self._steps, self._split = steps, split
    self._slots_of, self._most = slots_of, most
    self._before: Scalars | None = None

  def advance(
    self, state: TrainState, first: int, count: int
  ) -> tuple[TrainState, Scalars, int]:
    """See `Feeder`; the batches of one call have the same caption slots."""
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
    """Does nothing: it has no background work."""
