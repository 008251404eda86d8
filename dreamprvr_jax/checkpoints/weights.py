"""Weights of a run's best epoch, or in a folder of their own.

Orbax takes a while to import, so it is imported when weights are read or
written, not when they are only looked for.
"""

import os
import pathlib
import shutil
from typing import Any

import jax
from etils import epath

from dreamprvr_jax import folders
from dreamprvr_jax.checkpoints.files import (
  BEST,
  CONFIG_FILE,
  WEIGHTS,
  CheckpointError,
  first_line,
  hush_orbax,
  is_of_files,
  not_written,
  read_config,
)
from dreamprvr_jax.checkpoints.seal import SEAL, find_damage, write_seal

_OF_ORBAX = '_METADATA'


def best_info(workdir: os.PathLike[str] | str) -> dict[str, Any] | None:
  """Returns the facts of a run's best epoch, or None before the first.

  Raises:
    CheckpointError: If it is damaged.
  """
  root = epath.Path(os.path.abspath(workdir)) / BEST
  if not root.exists():
    return None
  import orbax.checkpoint as ocp

  with ocp.CheckpointManager(root) as manager:
    step = manager.latest_step()
    if step is None:
      return None
    _check_seal(pathlib.Path(root / str(step)), 'info')
    try:
      restored = manager.restore(
        step, args=ocp.args.Composite(info=ocp.args.JsonRestore())
      )
    except (ValueError, KeyError, FileNotFoundError) as error:
      raise CheckpointError(
        f'{root / str(step)} does not say which epoch it is of '
        f'({first_line(error)}); restore it from a backup'
      ) from error
    return {'step': step, **restored['info']}


def save_weights(
  directory: os.PathLike[str] | str, variables: Any, config: dict[str, Any]
) -> None:
  """Writes weights and their config as a checkpoint of their own.

  Raises:
    CheckpointError: If they cannot be written, in which case former weights
      are kept, or if files of another program are in their place.
  """
  import orbax.checkpoint as ocp

  hush_orbax()
  root = pathlib.Path(os.path.abspath(directory))
  root.mkdir(parents=True, exist_ok=True)
  fresh, former = root / f'.{WEIGHTS}.new', root / f'.{WEIGHTS}.former'
  for place in (root / WEIGHTS, fresh, former):
    # Orbax writes this file into each of its folders.
    if place.exists() and not (place / _OF_ORBAX).is_file():
      raise CheckpointError(
        f'{place} is no checkpoint, but weights would replace it; move it away '
        'or give another folder'
      )
  if (root / CONFIG_FILE).exists() and not (root / SEAL).exists():
    there = read_config(root)
    if not (isinstance(there, dict) and 'config' in there):
      raise CheckpointError(
        f'{root / CONFIG_FILE} belongs to another program, and the config of '
        'the weights would replace it; give another folder'
      )
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(fresh, variables, force=True)
  except (OSError, ValueError) as error:
    for path in root.glob(f'{fresh.name}*'):
      shutil.rmtree(path, ignore_errors=True)
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    raise not_written(
      root, needed, error, 'free disk space and give the same command again'
    ) from error
  if jax.process_index() == 0:
    (root / SEAL).unlink(missing_ok=True)
    if (root / WEIGHTS).exists():
      (root / WEIGHTS).rename(former)
    fresh.rename(root / WEIGHTS)
    write_seal(root, [WEIGHTS])
    folders.write_json(root / CONFIG_FILE, config)
    shutil.rmtree(former, ignore_errors=True)


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
      placed like the result.

  Raises:
    CheckpointError: If they are missing, damaged or do not fit.
  """
  import orbax.checkpoint as ocp

  path = locate_weights(directory)
  _check_seal(pathlib.Path(path.parent), WEIGHTS)
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      found = checkpointer.restore(path, template)
  except Exception as error:
    if not is_of_files(error):
      raise
    raise CheckpointError(
      f'{path} cannot be read as weights of the configured model '
      f'({first_line(error)})'
    ) from error
  _check_shapes(path, found, template)
  return found


def _check_shapes(path: epath.Path, found: Any, template: Any) -> None:
  """Raises CheckpointError if arrays do not have the template's shapes.

  Orbax does not check them for a template without devices.
  """
  leaves = jax.tree.leaves_with_path(template)
  for (key, wanted), leaf in zip(leaves, jax.tree.leaves(found), strict=True):
    if leaf.shape != wanted.shape:
      raise CheckpointError(
        f'{path} cannot be read as weights of the configured model: '
        f'{jax.tree_util.keystr(key)} has the shape {leaf.shape} where '
        f'{wanted.shape} was expected'
      )


def _check_seal(folder: pathlib.Path, item: str) -> None:
  """Raises CheckpointError if part of a checkpoint is damaged.

  A checkpoint of another program has no seal and is not checked.
  """
  problem = find_damage(folder, item) if (folder / SEAL).exists() else None
  if problem is not None:
    raise CheckpointError(
      f'{folder} is damaged ({problem}); restore it from a backup, or train in '
      'another --workdir, import or export it again'
    )
