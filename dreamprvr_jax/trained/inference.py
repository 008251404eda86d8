"""Loading a trained model, and exporting it."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from dreamprvr_jax import checkpoints, folders
from dreamprvr_jax.checkpoints import CheckpointError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.models.registry import build_model
from dreamprvr_jax.models.template import blank_batch, variable_shapes
from dreamprvr_jax.models.training_free import TrainingFree
from dreamprvr_jax.types import Batch

SAFETENSORS_FILE = 'weights.safetensors'
OFFICIAL_FILE = 'official.safetensors'


def lengths_of(config: Mapping[str, Any]) -> dict[str, int]:
  """Returns the sequence lengths that models and blank batches are built
  with."""
  names = ('num_clips', 'max_frames', 'max_words')
  return {name: config['data'][name] for name in names}


def model_of(config: Mapping[str, Any]) -> Model:
  """Returns the model that a config describes."""
  return build_model(
    dtype=config['dtype'], **lengths_of(config), **dict(config['model'])
  )


def blank_of(
  config: Mapping[str, Any], visual_width: int, text_width: int
) -> Batch:
  """Returns a batch of zeros with the shapes of a config's data."""
  return blank_batch(
    visual_width,
    text_width,
    merged=config['data'].get('clips') == 'merged',
    **lengths_of(config),
  )


def shapes_of(
  model: Model,
  config: Mapping[str, Any],
  visual_width: int,
  text_width: int,
) -> dict[str, Any]:
  """Returns the shapes of the variables of a model on given widths."""
  return variable_shapes(model, blank_of(config, visual_width, text_width))


def load(
  directory: os.PathLike[str] | str, config: Mapping[str, Any] | None = None
) -> tuple[Model, Any]:
  """Returns (model, variables) of a workdir, an import or an export.

  Use: `model.apply(variables, words, word_mask, method='encode_query')`, and
  likewise `encode_video` and `score`.

  Args:
    directory: A training run's workdir (its best epoch is taken), or a folder
      that import or export wrote, or a download from the hub, which has the
      weights as safetensors only.
    config: A config to build the model from instead of the stored one.

  Raises:
    CheckpointError: If the checkpoint is missing or cannot be read, or if its
      weights do not fit a model of `config`; names the keys.
  """
  stored = checkpoints.read_config(directory)
  wanted: Mapping[str, Any] = stored['config'] if config is None else config
  if wanted != stored['config']:
    _check_shapes(stored, wanted, directory)
  model = model_of(wanted)
  if isinstance(model, TrainingFree):
    return model, {}
  shapes = _shapes(stored, wanted)
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  placed = jax.tree.map(
    lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), shapes
  )
  path = pathlib.Path(directory) / SAFETENSORS_FILE
  if path.exists() and not path.with_name(checkpoints.WEIGHTS).exists():
    return model, _read_safetensors(path, placed)
  return model, checkpoints.load_weights(directory, placed)


def _read_safetensors(path: pathlib.Path, template: Any) -> Any:
  """Returns the variables in a file that `export` wrote.

  Args:
    path: The file.
    template: `jax.ShapeDtypeStruct`s of the variables, with their devices.

  Raises:
    CheckpointError: If it cannot be read, or has other tensors.
  """
  import safetensors
  from safetensors.numpy import load_file

  try:
    found = load_file(path)
  except safetensors.SafetensorError as error:
    raise CheckpointError(
      f'{path} cannot be read ({error}); download or export it again'
    ) from error
  expected = flax.traverse_util.flatten_dict(template, sep='.')
  differing = sorted(
    name
    for name in expected.keys() | found.keys()
    if getattr(expected.get(name), 'shape', None)
    != getattr(found.get(name), 'shape', None)
  )
  if differing:
    raise CheckpointError(
      f'{path} does not have the weights of the configured model: '
      f'{len(differing)} tensors are missing, unknown or of another shape, '
      f'the first is {differing[0]}; use the config that belongs to the weights'
    )
  return jax.tree.map(
    lambda leaf, like: jax.device_put(leaf, like.sharding),
    flax.traverse_util.unflatten_dict(found, sep='.'),
    template,
  )


def _shapes(stored: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
  return shapes_of(
    model_of(config), config, stored['visual_width'], stored['text_width']
  )


def _check_shapes(
  stored: Mapping[str, Any],
  config: Mapping[str, Any],
  directory: os.PathLike[str] | str,
) -> None:
  """Raises CheckpointError if stored weights do not fit a config.

  The error names the keys that change the shapes.
  """
  former = stored['config']
  name, own = config['model']['name'], former['model']['name']
  if name != own:
    # The stored config lacks the keys of another model.
    raise CheckpointError(
      f'the weights in {directory} do not fit the requested model '
      f'(config.model.name is {name!r}, not {own!r}); leave these settings out'
    )
  wanted = _shapes(stored, former)
  if _shapes(stored, config) == wanted:
    return
  culprits = []
  for section in ('model', 'data'):
    for key, value in config[section].items():
      before = former[section].get(key)
      alone = {**former, section: {**former[section], key: value}}
      if before != value and _shapes(stored, alone) != wanted:
        culprits.append(f'config.{section}.{key} is {value!r}, not {before!r}')
  raise CheckpointError(
    f'the weights in {directory} do not fit the requested model '
    f'({"; ".join(culprits) or "several keys together differ"}); leave these '
    'settings out'
  )


def export(
  directory: os.PathLike[str] | str,
  target: os.PathLike[str] | str,
  config: Mapping[str, Any] | None = None,
  *,
  rename: Callable[[Any, str], dict[str, np.ndarray]] | None = None,
) -> list[str]:
  """Writes a model's weights and config; returns the names of the files.

  The weights are written as an orbax checkpoint, which `load` reads, and as a
  safetensors file with the names of our variables joined by dots.

  Args:
    directory: The checkpoint, see `load`.
    target: The folder to write to.
    config: A config to write instead of the stored one, see `load`.
    rename: From variables and the model's name to tensors under the names of
      the authors' program, for a second safetensors file; None to omit it.

  Raises:
    CheckpointError: If `directory` has no readable checkpoint, or its weights
      do not fit a model of `config`.
  """
  from safetensors.numpy import save_file

  model, variables = load(directory, config)
  if not variables:
    raise CheckpointError(
      f'{directory} is of {type(model).__name__}, which has no weights to '
      'export; name it in a config instead'
    )
  stored = checkpoints.read_config(directory)
  if config is not None:
    stored['config'] = dict(config)
  checkpoints.save_weights(target, variables, stored)
  flat = flax.traverse_util.flatten_dict(variables, sep='.')
  files = {SAFETENSORS_FILE: flat}
  if rename is not None:
    files[OFFICIAL_FILE] = rename(variables, stored['config']['model']['name'])
  for name, tensors in files.items():
    # The writer takes the bytes of an array in their order in memory.
    arrays = {k: np.asarray(v, order='C') for k, v in tensors.items()}
    with folders.replacing(pathlib.Path(target) / name) as partial:
      save_file(arrays, partial)
  return [checkpoints.CONFIG_FILE, f'{checkpoints.WEIGHTS}/', *files]
