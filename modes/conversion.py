"""--mode=import and --mode=export: weights from and to other programs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dreamprvr_jax import checkpoints
from dreamprvr_jax.interop import inference, official, released_config
from dreamprvr_jax.interop.inert_values import Opaque
from dreamprvr_jax.interop.rules import WeightsError
from dreamprvr_jax.interop.torch_archive import read_archive
from dreamprvr_jax.types import parameter_count
from modes import joins
from modes.joins import Arguments


def read_released(
  path: str,
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
  """Returns (config, state dict, everything else) of a released checkpoint.

  Raises:
    ArchiveError: If the file cannot be read.
    WeightsError: If it is no checkpoint of the family.
  """
  archive = read_archive(path)
  if isinstance(archive, dict) and {'model', 'model_cfg'} <= set(archive):
    # MS-SL names things differently.
    archive = {
      **archive,
      'state_dict': archive['model'],
      'config': archive['model_cfg'],
    }
  if not isinstance(archive, dict) or 'state_dict' not in archive:
    found = (
      f'a dict of {", ".join(map(str, list(archive)[:8]))}'
      if isinstance(archive, dict)
      else type(archive).__name__
    )
    raise WeightsError(
      f'{path} holds {found}; a released checkpoint is a dict with config, '
      'epoch, model_val, state_dict and optimizer'
    )
  state = archive['state_dict']
  if not isinstance(state, Mapping):
    raise WeightsError(
      f'state_dict of {path} is a {type(state).__name__}, not a dict'
    )
  odd = [n for n, v in state.items() if not isinstance(v, np.ndarray)]
  if odd:
    raise WeightsError(
      f'{path}: {", ".join(map(str, odd[:5]))} in state_dict are not tensors'
    )
  config = archive.get('config')
  if isinstance(config, Opaque):
    # A dict of a class of its own, which is not looked up: its pairs are.
    config = dict(config.items)
  config = dict(config) if isinstance(config, Mapping) else {}
  rest = {k: archive.get(k) for k in ('epoch', 'model_val')}
  return config, dict(state), rest


def run_import(config: ConfigDict, arguments: Arguments) -> int:
  """Turns a released checkpoint into ours; `config` already has its sizes."""
  _, state, rest = read_released(arguments.official)
  visual, text = released_config.feature_widths(state)
  plain = joins.plain_config(config)
  model = inference.model_of(plain)
  shapes = inference.shapes_of(model, plain, visual, text)
  variables = official.from_official(state, shapes, plain['model']['name'])
  origin = {'file': arguments.official}
  if isinstance(rest['epoch'], int | float):
    origin['epoch'] = rest['epoch']
  if isinstance(rest['model_val'], list | tuple):
    origin['recorded_metrics'] = [float(v) for v in rest['model_val']]
  checkpoints.save_weights(
    arguments.workdir,
    variables,
    {
      'config': plain,
      'visual_width': visual,
      'text_width': text,
      'imported_from': origin,
      **joins.environment(),
    },
  )
  joins.say(
    f'{len(state)} tensors, {parameter_count(variables):,} numbers: '
    f'{arguments.workdir}'
  )
  joins.say(
    'evaluate it: python main.py --mode=evaluate '
    f'--checkpoint={arguments.workdir} --config.data.root=DIR'
  )
  return 0


def run_export(arguments: Arguments) -> int:
  """Writes the inference weights alone."""
  written = inference.export(arguments.checkpoint, arguments.out)
  joins.say(f'{arguments.out}: {", ".join(written)}')
  return 0
