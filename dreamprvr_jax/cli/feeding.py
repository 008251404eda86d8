"""The feeder of the training loop, by the pipeline of the config."""

from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data_pipeline import iterators
from data_pipeline.batching import TrainPlan
from data_pipeline.corpus import Split
from dreamprvr_jax.cli import residency
from dreamprvr_jax.devices.resident import ResidentSplit, compile_gather
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.train.feeders import (
  BatchFeeder,
  Feeder,
  GatheredBatches,
  HostBatches,
  SplitFeeder,
)
from dreamprvr_jax.train.step import compile_steps, compile_update

# The most updates that are issued together: a stop request waits for them.
_MOST_STEPS = 32


def make_feeder(
  config: ConfigDict, split: Split, mesh: Mesh, *, show: bool, **parts: Any
) -> Feeder:
  """Returns the feeder of a training.

  Args:
    config: The run's config; `data.pipeline` must not be 'auto'.
    split: The training split.
    mesh: The device mesh.
    show: Whether reading shows a bar.
    **parts: Keyword arguments of `train.step.update`.

  Raises:
    UserError: If the number of updates to issue together is negative.
  """
  placed = residency.place_split(split, config, mesh, show=show)
  if placed is None:
    return BatchFeeder(
      compile_update(mesh, **parts),
      lambda position: HostBatches(
        iterators.train_batches(
          split,
          batch_size=config.data.batch_size,
          seed=config.seed,
          position=position,
          pipeline=config.data.pipeline,
          process_index=jax.process_index(),
          process_count=jax.process_count(),
          multiple=config.data.caption_multiple,
        ),
        mesh,
      ),
    )
  plan = TrainPlan(
    split.caption_video,
    len(split.video_ids),
    batch_size=config.data.batch_size,
    seed=config.seed,
    multiple=config.data.caption_multiple,
  )
  return resident_feeder(config, placed, plan, mesh, **parts)


def resident_feeder(
  config: ConfigDict,
  placed: ResidentSplit,
  plan: TrainPlan,
  mesh: Mesh,
  **parts: Any,
) -> Feeder:
  """Returns the feeder of a split in device memory; see `make_feeder`.

  Args:
    config: The run's config.
    placed: The training split.
    plan: Its batches.
    mesh: The device mesh.
    **parts: Keyword arguments of `train.step.update`.
  """
  sizes = {
    'batch_size': plan.batch_size,
    'steps_per_epoch': plan.steps_per_epoch,
  }
  most = min(
    _steps_per_dispatch(config, mesh),
    plan.steps_per_epoch,
    config.train.log_every,
  )
  if most == 1:
    # The same update as in the other pipelines: XLA rounds a loop's body
    # differently.
    gather = compile_gather(mesh, seed=config.seed, **sizes)
    return BatchFeeder(
      compile_update(mesh, **parts),
      lambda position: GatheredBatches(gather, placed, plan.slots_of, position),
    )
  steps = compile_steps(mesh, most=most, **sizes, **parts)
  return SplitFeeder(steps, placed, plan.slots_of, most)


def _steps_per_dispatch(config: ConfigDict, mesh: Mesh) -> int:
  asked = config.train.steps_per_dispatch
  if asked < 0:
    raise UserError(
      f'config.train.steps_per_dispatch is {asked}; give 1 or more, or 0 to '
      'leave it to the device'
    )
  if asked:
    return asked
  # A step on a CPU takes seconds: a stop request is answered after one.
  return 1 if mesh.devices.flat[0].platform == 'cpu' else _MOST_STEPS
