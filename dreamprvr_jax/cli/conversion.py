"""--mode=import and --mode=export: weights from and for other programs."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from configs.rerank import METHODS
from dreamprvr_jax import checkpoints, folders
from dreamprvr_jax.cli import console, overrides, provenance, workdirs
from dreamprvr_jax.cli.commands import spelled
from dreamprvr_jax.interop import official, released_config
from dreamprvr_jax.interop.released_file import Released, read_released
from dreamprvr_jax.interop.rules import WeightsError
from dreamprvr_jax.rerank.networks import build_reranker
from dreamprvr_jax.rerank.trained import FUSION
from dreamprvr_jax.trained import inference
from dreamprvr_jax.types import parameter_count


@dataclasses.dataclass(frozen=True)
class ImportArguments:
  """The flags of import, with --official; see `options.py`."""

  official: str
  workdir: str


@dataclasses.dataclass(frozen=True)
class ExportArguments:
  """The flags of export; see `options.py`."""

  checkpoint: str
  out: str


def run_import(config: ConfigDict, arguments: ImportArguments) -> int:
  """Turns a released checkpoint into ours; `config` already has its sizes.

  Raises:
    ArchiveError: If the file cannot be read.
    WeightsError: If it is not a checkpoint of the family, or the command line
      sets a size that its tensors contradict.
    UserError: If another command uses the workdir.
  """
  with workdirs.held(arguments.workdir, 'checkpoint'):
    return _import(config, arguments)


def _import(config: ConfigDict, arguments: ImportArguments) -> int:
  released = read_released(arguments.official)
  state = released.state
  found = released_config.overrides(released.config, state)
  plain = provenance.plain_config(config)
  check_sizes(plain, found, released)
  visual, text = released_config.feature_widths(state)
  model = inference.model_of(plain)
  shapes = inference.shapes_of(model, plain, visual, text)
  variables = official.from_official(state, shapes, plain['model']['name'])
  checkpoints.save_weights(
    arguments.workdir,
    variables,
    {
      'config': plain,
      'visual_width': visual,
      'text_width': text,
      'imported_from': {'file': arguments.official, **released.facts},
      **provenance.environment(),
    },
  )
  console.say(
    f'{len(state)} tensors, {parameter_count(variables):,} numbers: '
    f'{arguments.workdir}'
  )
  for line in remarks(plain, found):
    console.say(line)
  reranker = ''
  if any('diffusion_model.' in name for name in state):
    reranker = import_generator(config, arguments, state, visual)
    console.say(f'its generator: {reranker}')
  console.say(
    'evaluate it: '
    + spelled(
      'evaluate',
      f'--checkpoint={arguments.workdir} --config.data.root=DIR'
      + (f' --rerank={reranker}' if reranker else ''),
    )
  )
  return 0


def check_sizes(
  plain: Mapping[str, Any],
  found: Mapping[str, Mapping[str, Any]],
  released: Released,
) -> None:
  """Refuses a config that contradicts the tensors of a file.

  Args:
    plain: The config, plain.
    found: Settings in the file, see `released_config.overrides`.
    released: The file.

  Raises:
    WeightsError: If they differ; it names both values.
  """
  sizes = released_config.sizes(released.state)
  heads = found['model'].get('num_heads')
  if heads:
    # The file says it; no tensor shows it.
    sizes['model']['num_heads'] = heads
  for section, values in sizes.items():
    for key, shown in values.items():
      given = plain[section][key]
      same = given == shown
      if key.endswith('_widths'):  # Tensors show only their number.
        same = len(given) == len(shown)
        given, shown = f'{len(given)} widths', f'{len(shown)} blocks'
      if not same:
        raise WeightsError(
          f'config.{section}.{key} is {given}, but {released.path} has '
          f'{shown}; leave the key out: sizes are taken from the file'
        )


def remarks(
  plain: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]
) -> list[str]:
  """Returns sentences on the settings that did not come from the file.

  Args:
    plain: The config, plain.
    found: Settings in the file, see `released_config.overrides`.
  """
  lines = []
  missing = [
    f'config.{section}.{key}={plain[section][key]}'
    for section, key in released_config.SCORING
    if key in plain[section] and key not in found.get(section, {})
  ]
  if missing:
    lines.append(
      f'the file does not say, so these are used: {", ".join(missing)}; if '
      'they are others, import again with --collection=NAME or these keys'
    )
  theirs = found.get('data', {}).get('collection')
  ours = plain['data']['collection']
  if theirs not in (None, ours):
    lines.append(
      f'the file is for the collection {theirs!r}; it will be evaluated on '
      f'{ours!r}, as the command says'
    )
  if plain['model'].get('frame_length') == 'batch':
    lines.append(
      "the frames' tables are made for the longest of "
      f"{plain['data']['eval_video_batch']} videos, as released: a video's "
      'vector depends on its batch; config.model.frame_length=fixed avoids '
      'that and changes scores a little'
    )
  return lines


def import_generator(
  config: ConfigDict,
  arguments: ImportArguments,
  state: Mapping[str, np.ndarray],
  width: int,
) -> str:
  """Writes the text-to-video generator of a state dict as a re-ranker with
  the released settings, beside the retriever; returns its folder."""
  plain = provenance.plain_config(config)
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
      **provenance.environment(),
    },
  )
  folders.write_json(
    folder / FUSION,
    {
      'temperature': settings['fuse_temperature'],
      'weight': settings['fuse_weight'],
      'sampling_steps': settings['sampling_steps'],
      'tuned': False,
    },
  )
  return str(folder)


def run_export(config: ConfigDict, arguments: ExportArguments) -> int:
  """Writes the inference weights alone.

  Raises:
    UserError: If another command uses the folder.
  """
  with workdirs.held(arguments.out, 'export'):
    written = inference.export(
      arguments.checkpoint,
      arguments.out,
      overrides.applied(config, arguments.checkpoint),
      rename=official.to_official,
    )
  console.say(f'{arguments.out}: {", ".join(written)}')
  return 0
