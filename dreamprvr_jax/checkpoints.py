"""Durable state: a run's checkpoints, and weights on their own.

Layout of a workdir:
  config.json               the run's config, with the data's widths
  checkpoints/latest/STEP   training state and loop position, for resuming
  checkpoints/best/STEP     weights of the best epoch by SumR
Layout of weights on their own (import, export): config.json and `weights/`.
Everything is written to a temporary place and renamed.
"""

import json
import os
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from dreamprvr_jax.errors import UserError

CONFIG_FILE = 'config.json'
WEIGHTS = 'weights'
LATEST = 'checkpoints/latest'
BEST = 'checkpoints/best'


class CheckpointError(UserError):
  """A checkpoint that is missing, damaged or of another model."""


def write_json(path: os.PathLike[str] | str, value: Any) -> None:
  """Writes `value` as JSON, replacing the file in one step."""
  target = epath.Path(path)
  target.parent.mkdir(parents=True, exist_ok=True)
  partial = target.parent / f'.{target.name}.{os.getpid()}.tmp'
  partial.write_text(json.dumps(value, indent=2) + '\n')
  partial.replace(target)


def read_config(directory: os.PathLike[str] | str) -> dict[str, Any]:
  """Returns the config that is stored beside weights or in a workdir.

  Raises:
    CheckpointError: If there is none or it is not JSON.
  """
  path = epath.Path(directory) / CONFIG_FILE
  if not path.exists():
    raise CheckpointError(
      f'{directory} holds no {CONFIG_FILE}; give the workdir of a run, or a '
      'folder that --mode=import or --mode=export wrote'
    )
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise CheckpointError(
      f'{path} is not valid JSON ({error}); restore it from a backup or make '
      'the checkpoint again'
    ) from error


class RunCheckpoints:
  """The two series of checkpoints of one run."""

  def __init__(self, workdir: os.PathLike[str] | str, keep: int = 2):
    root = epath.Path(os.path.abspath(workdir))
    options = lambda count: ocp.CheckpointManagerOptions(
      max_to_keep=count, enable_async_checkpointing=True
    )
    self._latest = ocp.CheckpointManager(root / LATEST, options=options(keep))
    self._best = ocp.CheckpointManager(root / BEST, options=options(1))

  def save_latest(self, step: int, state: Any, loop: dict[str, Any]) -> None:
    """Saves training state and loop position; returns before it is on disk."""
    if step in self._latest.all_steps():
      # An interrupted epoch end: the same step with a newer loop position.
      self._latest.wait_until_finished()
      self._latest.delete(step)
    self._latest.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), loop=ocp.args.JsonSave(loop)
      ),
      force=True,
    )

  def save_best(self, step: int, variables: Any, info: dict[str, Any]) -> None:
    """Saves the weights of a new best epoch and what made it the best."""
    if step in self._best.all_steps():
      # Killed between this save and the next of the latest state: the
      # repeated epoch has the same weights.
      return
    self._best.save(
      step,
      args=ocp.args.Composite(
        weights=ocp.args.StandardSave(variables), info=ocp.args.JsonSave(info)
      ),
      force=True,
    )

  def latest_step(self) -> int | None:
    """Returns the step of the newest resumable state, or None."""
    return self._latest.latest_step()

  def restore_latest(self, template: Any) -> tuple[Any, dict[str, Any]]:
    """Returns (state, loop position) of the newest checkpoint.

    Args:
      template: A state of the same shapes, placed as the result is to be.

    Raises:
      CheckpointError: If there is no checkpoint or it does not fit.
    """
    step = self.latest_step()
    if step is None:
      raise CheckpointError('there is no checkpoint to resume from')
    try:
      restored = self._latest.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(template),
          loop=ocp.args.JsonRestore(),
        ),
      )
    except (ValueError, KeyError, FileNotFoundError) as error:
      raise CheckpointError(
        f'the checkpoint of step {step} does not fit this config '
        f'({_first_line(error)}); use the config that the run was started '
        'with, or another --workdir'
      ) from error
    return restored['state'], restored['loop']

  def wait(self) -> None:
    """Blocks until everything that was saved is on disk."""
    self._latest.wait_until_finished()
    self._best.wait_until_finished()

  def close(self) -> None:
    """Waits, then frees the managers."""
    self.wait()
    self._latest.close()
    self._best.close()


def best_info(workdir: os.PathLike[str] | str) -> dict[str, Any] | None:
  """Returns what is known of a run's best epoch, or None before the first."""
  root = epath.Path(os.path.abspath(workdir)) / BEST
  if not root.exists():
    return None
  with ocp.CheckpointManager(root) as manager:
    step = manager.latest_step()
    if step is None:
      return None
    restored = manager.restore(
      step, args=ocp.args.Composite(info=ocp.args.JsonRestore())
    )
    return {'step': step, **restored['info']}


def save_weights(
  directory: os.PathLike[str] | str, variables: Any, config: dict[str, Any]
) -> None:
  """Writes weights and their config as a checkpoint of their own."""
  root = epath.Path(os.path.abspath(directory))
  root.mkdir(parents=True, exist_ok=True)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(root / WEIGHTS, variables, force=True)
  write_json(root / CONFIG_FILE, config)


def locate_weights(directory: os.PathLike[str] | str) -> epath.Path:
  """Returns the orbax folder with the weights of a workdir or checkpoint.

  Raises:
    CheckpointError: If there is none.
  """
  root = epath.Path(os.path.abspath(directory))
  if not root.exists():
    raise CheckpointError(
      f'{directory} does not exist; give the workdir of a run or a checkpoint '
      'folder'
    )
  if (root / WEIGHTS).exists():
    return root / WEIGHTS
  best = root / BEST
  steps = []
  if best.exists():
    steps = [int(p.name) for p in best.iterdir() if p.name.isdigit()]
  if not steps:
    raise CheckpointError(
      f'{directory} holds neither {WEIGHTS}/ nor {BEST}/: no epoch has been '
      'evaluated there yet; run the training command first'
    )
  return best / str(max(steps)) / WEIGHTS


def load_weights(directory: os.PathLike[str] | str, template: Any) -> Any:
  """Returns the weights of a workdir or checkpoint.

  Args:
    directory: A workdir, or a folder written by `save_weights`.
    template: Variables of the same shapes (or `jax.ShapeDtypeStruct`s),
      placed as the result is to be.

  Raises:
    CheckpointError: If they are missing or do not fit.
  """
  path = locate_weights(directory)
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      return checkpointer.restore(path, template)
  except (ValueError, KeyError, FileNotFoundError) as error:
    raise CheckpointError(
      f'{path} cannot be read as weights of the configured model '
      f'({_first_line(error)})'
    ) from error


def _first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines()
  return lines[0][:200] if lines else type(error).__name__
