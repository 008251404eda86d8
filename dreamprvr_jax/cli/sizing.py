"""Keys of a config that training chooses by the data and the device."""

import dataclasses
import logging
import pathlib
from collections.abc import Collection
from typing import Any

from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from configs import sizing
from data_pipeline.opening import open_corpus
from data_pipeline.release import release_exists
from dreamprvr_jax import checkpoints
from dreamprvr_jax.cli import data
from dreamprvr_jax.errors import UserError

_log = logging.getLogger(__name__)

SIZINGS = ('given', 'auto')


def as_stored(
  config: ConfigDict, workdir: pathlib.Path, given: Collection[str]
) -> ConfigDict:
  """Returns the config with what a run chose at its start, if there is one.

  Args:
    config: The config of a command line.
    workdir: Folder of the run.
    given: Keys that the command line sets; they stay.
  """
  if config.train.sizing != 'auto':
    return config
  if not (workdir / checkpoints.CONFIG_FILE).exists():
    return config
  stored = checkpoints.read_config(workdir)['config']
  if stored['train'].get('sizing') != 'auto':
    return config
  values = flatten_dict(stored, sep='.')
  kept = {key: values[key] for key in sizing.KEYS if key in values}
  return _with(config, kept, given)


def sized(
  config: ConfigDict,
  workdir: pathlib.Path,
  given: Collection[str],
  mesh: Mesh,
) -> ConfigDict:
  """Returns the config with values by number and length of videos and by the
  device, and says which; a run that goes on keeps its own.

  Args:
    config: The config of a command line.
    workdir: Folder of the run.
    given: Keys that the command line sets; they stay.
    mesh: The devices of the run.

  Raises:
    UserError: If `config.train.sizing` is unknown.
    DataError: If the data is missing or damaged.
  """
  if config.train.sizing not in SIZINGS:
    raise UserError(
      f'config.train.sizing is {config.train.sizing!r}; choose one of {SIZINGS}'
    )
  if config.train.sizing != 'auto':
    return config
  if (workdir / checkpoints.CONFIG_FILE).exists():
    return as_stored(config, workdir, given)
  data.write_simulated(config)
  options = data.data_options(config)
  if release_exists(options):
    # Nothing is prepared yet, or it is for other sizes.
    options = dataclasses.replace(options, storage='release')
  train = data.get_split(open_corpus(options), 'train')
  found = sizing.chosen(
    videos=len(train.video_ids),
    frames=int(train.stored_frames.max()),
    words=int(train.num_words.max()),
    devices=mesh.size,
    is_cpu=mesh.devices.flat[0].platform == 'cpu',
  )
  for name in ('max_frames', 'max_words'):
    if f'data.{name}' in found:
      found[f'data.{name}'] = min(found[f'data.{name}'], config.data[name])
  if config.data.clips != 'pooled':
    found.pop('data.max_frames', None)
  if 'parallel_execution' not in config.model:
    found.pop('model.parallel_execution', None)
  result = _with(config, found, given)
  values = flatten_dict(result.to_dict(), sep='.')
  _log.info(
    'chosen for %d videos: %s',
    len(train.video_ids),
    ', '.join(f'{key}={values[key]}' for key in found if key not in given),
  )
  return result


def _with(
  config: ConfigDict, values: dict[str, Any], given: Collection[str]
) -> ConfigDict:
  result = config.copy_and_resolve_references().unlock()
  result.update_from_flattened_dict(
    {key: value for key, value in values.items() if key not in given}
  )
  return result.lock()
