"""The config of a command that names a checkpoint instead of --config."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import common
from dreamprvr_jax import checkpoints
from dreamprvr_jax.interop import released_config
from dreamprvr_jax.search.manifest import Manifest
from modes.conversion import read_released


def from_checkpoint(directory: str) -> ConfigDict:
  """Returns the config that is stored in a workdir or checkpoint, locked.

  Raises:
    CheckpointError: If there is none.
  """
  return _filled(checkpoints.read_config(directory)['config'])


def from_index(directory: str) -> ConfigDict:
  """Returns the config of the checkpoint that an index was made with, locked.

  Raises:
    UserError: If there is no index, or the checkpoint is no longer there.
  """
  return from_checkpoint(Manifest.read(directory).checkpoint)


def from_released(path: str) -> ConfigDict:
  """Returns our config for a released checkpoint, locked.

  Raises:
    ArchiveError: If the file cannot be read.
    WeightsError: If it is no checkpoint of the family.
  """
  released, state, _ = read_released(path)
  return _filled(released_config.overrides(released, state))


def _filled(sections: Mapping[str, Any]) -> ConfigDict:
  """Returns the defaults of a dataset with the given values put in."""
  config = common.base_config()
  data, model = sections.get('data', {}), sections.get('model', {})
  config.data.collection = data.get('collection', config.data.collection)
  config = common.with_model(config, model.get('name', '')).unlock()
  for section, values in sections.items():
    if isinstance(values, Mapping):
      # Keys that a later version no longer has are left out.
      known = config.get(section, {})
      for key, value in values.items():
        if key in known:
          known[key] = tuple(value) if isinstance(value, list) else value
    elif section in config:
      config[section] = values
  return config.lock()
