"""Weights for use: loading a trained model, and handing it on."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from dreamprvr_jax import checkpoints
from dreamprvr_jax.checkpoints import CheckpointError
from dreamprvr_jax.models.base import RetrievalModel
from dreamprvr_jax.models.registry import build_model
from dreamprvr_jax.models.template import blank_batch, variable_shapes
from dreamprvr_jax.types import Batch

SAFETENSORS_FILE = 'weights.safetensors'


def lengths_of(config: Mapping[str, Any]) -> dict[str, int]:
  """Returns the sequence lengths that models and blank batches are built
  with."""
  names = ('num_clips', 'max_frames', 'max_words')
  return {name: config['data'][name] for name in names}


def model_of(config: Mapping[str, Any]) -> RetrievalModel:
  """Returns the model that a config describes."""
  return build_model(
    dtype=config['dtype'], **lengths_of(config), **dict(config['model'])
  )


def blank_of(
  config: Mapping[str, Any], visual_width: int, text_width: int
) -> Batch:
  """Returns a batch of zeros as a config's data has them."""
  return blank_batch(
    visual_width,
    text_width,
    merged=config['data'].get('clips') == 'merged',
    **lengths_of(config),
  )


def shapes_of(
  model: RetrievalModel,
  config: Mapping[str, Any],
  visual_width: int,
  text_width: int,
) -> dict[str, Any]:
  """Returns the shapes of the variables of a model on given widths."""
  return variable_shapes(model, blank_of(config, visual_width, text_width))


def load(
  directory: os.PathLike[str] | str, config: Mapping[str, Any] | None = None
) -> tuple[RetrievalModel, Any]:
  """Returns (model, variables) of a workdir, an import or an export.

  Use: `model.apply(variables, words, word_mask, method='encode_query')`, and
  likewise `encode_video` and `score`.

  Args:
    directory: A training run's workdir (its best epoch is taken), or a folder
      that --mode=import or --mode=export wrote.
    config: What the model is built from instead of the config that is stored
      there.

  Raises:
    CheckpointError: If there is no checkpoint, it cannot be read, or its
      weights are not those of a model of `config`; the keys are named.
  """
  stored = checkpoints.read_config(directory)
  wanted: Mapping[str, Any] = stored['config'] if config is None else config
  model = model_of(wanted)
  shapes = _shapes(stored, wanted)
  if wanted != stored['config']:
    _check_shapes(stored, wanted, directory)
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  placed = jax.tree.map(
    lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), shapes
  )
  return model, checkpoints.load_weights(directory, placed)


def _shapes(stored: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
  return shapes_of(
    model_of(config), config, stored['visual_width'], stored['text_width']
  )


def _check_shapes(
  stored: Mapping[str, Any],
  config: Mapping[str, Any],
  directory: os.PathLike[str] | str,
) -> None:
  """Raises CheckpointError if stored weights are of other shapes than those of
  a config; names the keys that make the difference."""
  former = stored['config']
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
    f'the weights in {directory} are of another model than the one that is '
    f'asked for ({"; ".join(culprits) or "by several keys together"}); leave '
    'out what says so'
  )


def export(
  directory: os.PathLike[str] | str,
  target: os.PathLike[str] | str,
  config: Mapping[str, Any] | None = None,
) -> list[str]:
  """Writes a model's weights and config to `target`; returns what was written.

  Two forms: an orbax checkpoint, which `load` reads, and a safetensors file
  with the names of our variables joined by dots.

  Args:
    directory: The checkpoint, see `load`.
    target: Where to.
    config: What is written instead of the stored config, see `load`.

  Raises:
    CheckpointError: If `directory` holds no readable checkpoint, or weights of
      another model than that of `config`.
  """
  from safetensors.numpy import save_file

  _, variables = load(directory, config)
  stored = checkpoints.read_config(directory)
  if config is not None:
    stored['config'] = dict(config)
  checkpoints.save_weights(target, variables, stored)
  flat = flax.traverse_util.flatten_dict(variables, sep='.')
  path = pathlib.Path(target) / SAFETENSORS_FILE
  partial = path.with_suffix('.tmp')
  save_file({k: np.asarray(v) for k, v in flat.items()}, partial)
  partial.replace(path)
  return [
    checkpoints.CONFIG_FILE,
    f'{checkpoints.WEIGHTS}/',
    SAFETENSORS_FILE,
  ]
