"""Keys that the command line sets beside a checkpoint's own config.

A key that changes numbers is applied or refused, never ignored.
"""

import copy
from collections.abc import Mapping
from typing import Any

from absl.flags import FlagValues
from ml_collections import ConfigDict

from configs.rerank import METHODS
from dreamprvr_jax import checkpoints
from dreamprvr_jax.cli import base_config, provenance
from dreamprvr_jax.errors import UserError

# Modes that accept another model than the stored one, if the weights fit it.
APPLYING = ('evaluate', 'export')
# Keys of `config.data` that change the model, as `config.model` does.
_SHAPING = ('num_clips', 'clips', 'max_frames', 'max_words')
# Keys of `config.rerank` that a trained re-ranker does not fix.
_FREE_OF_RERANKER = ('correction', 'noise_seeds')
# Keys of `config.data` that a table of re-rankers takes from each retriever.
OF_EACH_RETRIEVER = (
  'clips',
  'num_clips',
  'max_frames',
  'max_words',
  'prepared',
  'feature',
  'text_feature',
)


def applied(config: ConfigDict, directory: str) -> dict[str, Any]:
  """Returns the stored config of a checkpoint with a command's changes to the
  model.

  Args:
    config: The command's config, which began as the checkpoint's.
    directory: The checkpoint.
  """
  stored = checkpoints.read_config(directory)['config']
  changed = _changes(base_config.from_checkpoint(directory), config)
  result = copy.deepcopy(stored)
  for key, (_, value) in changed.items():
    section, _, name = key.rpartition('.')
    (result[section] if section else result)[name] = value
  return result


def check(values: FlagValues, base: ConfigDict, place: str) -> None:
  """Refuses keys that change numbers but that the mode would ignore.

  Args:
    values: The parsed flags.
    base: The config before the keys of the command line were applied.
    place: The checkpoint, or the index made with it.

  Raises:
    UserError: If there is such a key; it names the key and both values.
  """
  mode, config = values.mode, values.config
  changed = _changes(base, config)
  if mode not in APPLYING or ('index' in values and values.index):
    for key, (former, value) in changed.items():
      raise UserError(
        f'config.{key} is {value!r}, but {former!r} in {place}: --mode={mode} '
        'takes a model as it is stored; leave the key out, or write a '
        'checkpoint with it first (--mode=export --checkpoint=DIR --out=DIR2 '
        f'--config.{key}=VALUE)'
      )
  if mode == 'evaluate' and values.rerank:
    _check_reranker(_differing(base, config, 'rerank'), values.rerank)
  if mode == 'rerank-table':
    _check_table(values, base)


def _check_reranker(
  changed: Mapping[str, tuple[Any, Any]], directory: str
) -> None:
  stored = checkpoints.read_config(directory).get('config', {})
  for key, (_, value) in changed.items():
    own = stored.get('rerank', {}).get(key, value)
    if key not in _FREE_OF_RERANKER and own != value:
      raise UserError(
        f'config.rerank.{key} is {value!r}, but {own!r} in {directory}: a '
        're-ranker is used as it was trained; leave the key out, or train one '
        'with it'
      )


def _check_table(values: FlagValues, base: ConfigDict) -> None:
  names = values.methods.split(',') if values.methods else list(METHODS)
  for key, (_, value) in _differing(base, values.config, 'rerank').items():
    for name in names:
      if METHODS.get(name, {}).get(key, value) != value:
        raise UserError(
          f'config.rerank.{key} is {value!r}, but the method {name} sets it '
          f'to {METHODS[name][key]!r}; leave the key out, or the method '
          '(--methods)'
        )
  for key, (former, value) in _differing(base, values.config, 'data').items():
    if key in OF_EACH_RETRIEVER:
      raise UserError(
        f'config.data.{key} is {value!r}, but a table of re-rankers reads what '
        f'each retriever was trained on, here {former!r}; leave the key out'
      )


def _changes(
  base: ConfigDict, config: ConfigDict
) -> dict[str, tuple[Any, Any]]:
  """Returns {key: (before, now)} of the changed keys of a model."""
  found = {
    f'model.{key}': both
    for key, both in _differing(base, config, 'model').items()
  }
  if base.dtype != config.dtype:
    found['dtype'] = base.dtype, config.dtype
  for key, both in _differing(base, config, 'data').items():
    if key in _SHAPING:
      found[f'data.{key}'] = both
  return found


def _differing(
  base: ConfigDict, config: ConfigDict, section: str
) -> dict[str, tuple[Any, Any]]:
  before = provenance.plain_config(base[section])
  now = provenance.plain_config(config[section])
  return {
    key: (before.get(key), now[key])
    for key in now
    if before.get(key) != now[key]
  }
