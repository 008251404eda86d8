"""The two series of checkpoints of a run: states, and best weights."""

import contextlib
import logging
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp

from dreamprvr_jax.checkpoints.files import (
  BEST,
  DAMAGED,
  LATEST,
  CheckpointError,
  first_line,
  hush_orbax,
  is_not_written,
  not_written,
)
from dreamprvr_jax.checkpoints.seal import (
  find_damage,
  read_facts,
  update_facts,
  write_seal,
)
from dreamprvr_jax.devices import leader

_log = logging.getLogger(__name__)

# Folders that orbax is writing, or was when it was killed.
_UNFINISHED = '*.orbax-checkpoint-tmp*'


class RunCheckpoints:
  """The checkpoints of one run.

  Opening them removes what a killed process left unfinished, and moves states
  newer than the newest whole one to `checkpoints/damaged`.
  """

  def __init__(self, workdir: os.PathLike[str] | str, keep: int = 2):
    """Opens or begins the series.

    Args:
      workdir: Folder of the run.
      keep: States to keep.

    Raises:
      CheckpointError: If there are states, but none is whole.
    """
    root = pathlib.Path(os.path.abspath(workdir))
    self._folders = {'best': root / BEST, 'latest': root / LATEST}
    hush_orbax()
    leader.alone(lambda: _screen(root))
    self._loop: dict[str, Any] = {}
    self._managers = {
      'best': _manager(root / BEST, 1, dict),
      'latest': _manager(root / LATEST, keep, lambda: {'loop': self._loop}),
    }
    self._bytes = 0
    self._failed = False

  def save_latest(self, step: int, state: Any, loop: dict[str, Any]) -> None:
    """Saves training state and loop position; returns before it is on disk.

    A state is a function of its step. If one of this step exists already, only
    the position is replaced.

    Raises:
      CheckpointError: If this or an earlier save failed; the checkpoints before
        it are kept.
    """
    # The best weights must be on disk before the position that names them.
    self.wait()
    if step in self._managers['latest'].all_steps():
      if jax.process_index() == 0:
        update_facts(self._folders['latest'] / str(step), loop=loop)
      return
    self._loop = loop
    self._save('latest', step, state=ocp.args.StandardSave(state))

  def save_best(self, step: int, variables: Any, info: dict[str, Any]) -> None:
    """Saves the weights of a new best epoch and its metrics.

    Raises:
      CheckpointError: If this or an earlier save failed; the former best is
        kept.
    """
    self.wait()
    if step in self._managers['best'].all_steps():
      # Killed between this save and the next of the latest state: the
      # repeated epoch has the same weights.
      folder = self._folders['best'] / str(step)
      if leader.alone(lambda: find_damage(folder) is None):
        return
      self._managers['best'].delete(step)
    self._save(
      'best',
      step,
      weights=ocp.args.StandardSave(variables),
      info=ocp.args.JsonSave(info),
    )

  def latest_step(self) -> int | None:
    """Returns the step of the newest resumable state, or None."""
    return self._managers['latest'].latest_step()

  def restore_latest(self, template: Any) -> tuple[Any, dict[str, Any]]:
    """Returns (state, loop position) of the newest checkpoint.

    Args:
      template: A state of the same shapes, placed like the result.

    Raises:
      CheckpointError: If no checkpoint exists or it does not fit.
    """
    step = self.latest_step()
    if step is None:
      raise CheckpointError('no checkpoint to resume from')
    try:
      restored = self._managers['latest'].restore(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardRestore(template)),
      )
    except (ValueError, KeyError, FileNotFoundError) as error:
      raise CheckpointError(
        f'the checkpoint of step {step} does not fit this config '
        f'({first_line(error)}); use the config that the run was started '
        'with, or another --workdir'
      ) from error
    facts = read_facts(self._folders['latest'] / str(step))
    return restored['state'], facts['loop']

  def wait(self) -> None:
    """Blocks until everything that was saved is on disk.

    Raises:
      CheckpointError: If it could not be written; raised only once.
    """
    if self._failed:
      return
    for series, manager in self._managers.items():
      try:
        manager.wait_until_finished()
      except Exception as error:
        # Errors of the thread that writes are raised here.
        if not is_not_written(error):
          self._failed = True
          raise
        raise self._failure(series, error) from error

  def close(self) -> None:
    """Waits, then frees the managers.

    Raises:
      CheckpointError: As `wait` does.
    """
    try:
      self.wait()
    finally:
      for manager in self._managers.values():
        try:
          manager.close()
        except Exception:
          # Orbax raises its error a second time.
          if not self._failed:
            raise

  def _save(self, series: str, step: int, **items: Any) -> None:
    leaves = jax.tree.leaves([getattr(x, 'item', None) for x in items.values()])
    self._bytes = sum(getattr(leaf, 'nbytes', 0) for leaf in leaves)
    try:
      self._managers[series].save(
        step, args=ocp.args.Composite(**items), force=True
      )
    except (OSError, ValueError) as error:
      if not is_not_written(error):
        raise
      raise self._failure(series, error) from error

  def _failure(self, series: str, error: Exception) -> CheckpointError:
    """Removes unfinished checkpoints and returns the error to raise."""
    self._failed = True
    for manager in self._managers.values():
      with contextlib.suppress(OSError, ValueError):
        manager.wait_until_finished()
    if jax.process_index() == 0:
      for folder in self._folders.values():
        _remove_unfinished(folder)
    return not_written(
      self._folders[series],
      self._bytes,
      error,
      'the checkpoints before it are kept: free disk space and give the same '
      'command again',
    )


def _manager(
  folder: pathlib.Path, keep: int, facts: Callable[[], dict[str, Any]]
) -> ocp.CheckpointManager:
  """Returns a manager that seals its checkpoints, with some facts."""

  def seal() -> None:
    # Called on the first process, once all files are written and before the
    # folder gets its name. Saves wait for each other, so there is one folder.
    for unfinished in folder.glob(_UNFINISHED):
      items = [path.name for path in unfinished.iterdir() if path.is_dir()]
      write_seal(unfinished, items, **facts())

  return ocp.CheckpointManager(
    folder,
    options=ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      enable_async_checkpointing=True,
      async_options=ocp.AsyncOptions(post_finalization_callback=seal),
    ),
  )


def _screen(root: pathlib.Path) -> None:
  """Moves damaged states away until the newest one is whole.

  Raises:
    CheckpointError: If no state is whole; all stay where they are.
  """
  for folder in (root / LATEST, root / BEST):
    _remove_unfinished(folder)
  latest = root / LATEST
  steps = sorted(
    (int(p.name) for p in latest.glob('*') if p.name.isdigit()), reverse=True
  )
  damaged: dict[int, str] = {}
  for step in steps:
    problem = find_damage(latest / str(step))
    if problem is None:
      break
    damaged[step] = problem
  if damaged and len(damaged) == len(steps):
    found = '; '.join(f'step {s}: {why}' for s, why in damaged.items())
    raise CheckpointError(
      f'no checkpoint in {latest} is whole ({found}); restore one from a '
      'backup, or start again in another --workdir'
    )
  for step, problem in damaged.items():
    aside = root / DAMAGED / str(step)
    aside.parent.mkdir(exist_ok=True)
    if aside.exists():
      # Nothing is overwritten.
      aside = aside.with_name(f'{step}-{uuid.uuid4().hex[:12]}')
    (latest / str(step)).rename(aside)
    _log.warning(
      'the checkpoint of step %d in %s is damaged (%s): going back to step %d; '
      'its files are now in %s',
      step,
      latest,
      problem,
      steps[len(damaged)],
      aside,
    )


def _remove_unfinished(folder: pathlib.Path) -> None:
  for path in folder.glob(_UNFINISHED):
    shutil.rmtree(path, ignore_errors=True)
