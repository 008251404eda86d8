"""--mode=import and --mode=export: weights from and to other programs."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from configs.rerank import METHODS
from dreamprvr_jax import checkpoints
from dreamprvr_jax.interop import inference, official, released_config
from dreamprvr_jax.interop.inert_values import Opaque
from dreamprvr_jax.interop.rules import WeightsError
from dreamprvr_jax.interop.torch_archive import read_archive
from dreamprvr_jax.rerank.networks import build_reranker
from dreamprvr_jax.types import parameter_count
from modes import joins
from modes.joins import Arguments
from modes.reranking import FUSION


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
  if isinstance(archive, dict) and any(
    str(name).startswith('transformerClip.') for name in archive
  ):
    # DiffusionRet's files are the state dict itself.
    archive = {'state_dict': archive}
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
  reranker = ''
  if any('diffusion_model.' in name for name in state):
    reranker = import_generator(config, arguments, state, visual)
    joins.say(f'its generator: {reranker}')
  joins.say(
    'evaluate it: python main.py --mode=evaluate '
    f'--checkpoint={arguments.workdir} --config.data.root=DIR'
    + (f' --rerank={reranker}' if reranker else '')
  )
  return 0


def import_generator(
  config: ConfigDict,
  arguments: Arguments,
  state: Mapping[str, np.ndarray],
  width: int,
) -> str:
  """Writes the text-to-video generator of a state dict as a re-ranker with
  the released settings, beside the retriever; returns its folder."""
  plain = joins.plain_config(config)
  plain['rerank'] |= {**METHODS['released'], 'tokens': 'frame'}
  settings = plain['rerank']
  model = build_reranker(settings, width)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), 2, width))
  folder = pathlib.Path(arguments.workdir) / 'reranker'
  checkpoints.save_weights(
    folder,
    official.from_official(state, shapes, 'text_to_video'),
    {
      'config': plain,
      'reranker': {'width': width, 'retriever': '', 'retriever_digest': ''},
      'imported_from': {'file': arguments.official},
      **joins.environment(),
    },
  )
  checkpoints.write_json(
    folder / FUSION,
    {
      'temperature': settings['fuse_temperature'],
      'weight': settings['fuse_weight'],
      'sampling_steps': settings['sampling_steps'],
      'tuned': False,
    },
  )
  return str(folder)


def run_export(arguments: Arguments) -> int:
  """Writes the inference weights alone."""
  written = inference.export(arguments.checkpoint, arguments.out)
  joins.say(f'{arguments.out}: {", ".join(written)}')
  return 0
