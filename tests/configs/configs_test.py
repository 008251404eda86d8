"""Every config builds its model, and every key is read somewhere."""

import ast
import importlib
import pathlib

import jax
import pytest

from dreamprvr_jax import rng
from dreamprvr_jax.interop.inference import lengths_of, model_of
from dreamprvr_jax.models.template import blank_batch
from dreamprvr_jax.objectives.registry import build_objective
from dreamprvr_jax.train.bert_adam import bert_adam, warmup_linear
from dreamprvr_jax.train.step import create_state, update
from modes.help import config_keys
from modes.joins import plain_config

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ('activitynet', 'charades', 'tvr', 'quickstart')
PUBLISHED = {
  'activitynet': {
    'optimizer.lr': 2.5e-4,
    'model.num_registers': 4,
    'model.dropout': 0.31,
    'loss.structure': 0.01,
    'loss.structure_temperature': 0.08,
    'train.epochs': 100,
    'train.patience': 10,
    'data.feature': 'i3d',
  },
  'charades': {
    'optimizer.lr': 2e-4,
    'model.num_registers': 6,
    'model.input_dropout': 0.25,
    'loss.structure': 0.002,
    'loss.structure_temperature': 0.01,
    'data.feature': 'i3d_rgb_lgi',
  },
  'tvr': {
    'optimizer.lr': 3e-4,
    'model.num_registers': 8,
    'model.merge_temperature': 0.09,
    'model.clip_weight': 0.5,
    'loss.margin': 0.1,
    'loss.clip_nce': 0.05,
    'loss.diversity': 8e-5,
    'loss.diversity_delta': 0.15,
    'train.epochs': 150,
    'train.patience': 20,
    'data.feature': 'i3d_resnet',
  },
}


def config_of(name, model=''):
  return importlib.import_module(f'configs.{name}').get_config(model)


def keys(config, prefix=''):
  for key, value in config.items():
    if isinstance(value, dict):
      yield from keys(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}'


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_numbers(name):
  config = config_of(name)
  assert config.data.batch_size == 128
  assert config.train.hard_negative_epoch == 20
  for key, value in PUBLISHED[name].items():
    section, _, rest = key.partition('.')
    assert config[section][rest] == value, key


def step_shapes(config):
  """Returns (state, scalars) of one update, as shapes."""
  config = plain_config(config)
  model = model_of(config)
  batch = blank_batch(24, 20, **lengths_of(config))
  optimizer = bert_adam(warmup_linear(config['optimizer']['lr'], 100))
  objective = build_objective(config['model']['name'], **config['loss'])

  def step():
    rngs = {s: rng.stream_key(0, s) for s in rng.STREAMS if s != 'init'}
    variables = model.init({'params': rng.stream_key(0, 'init'), **rngs}, batch)
    variables = {k: v for k, v in variables.items() if k != 'intermediates'}
    return update(
      create_state(variables, optimizer),
      batch,
      model=model,
      objective=objective,
      optimizer=optimizer,
      seed=0,
      hard_from_step=10,
    )

  return jax.eval_shape(step)


@pytest.mark.parametrize('name', NAMES)
def test_steps_under_eval_shape(name):
  config = config_of(name)
  state, scalars = step_shapes(config)
  assert scalars['loss/total'].shape == ()
  assert state.params['clip_encoder']['merger']['logits']['kernel'].shape == (
    config.model.width,
    config.data.num_clips,
  )


SIMILARITY = {'clip_nce', 'clip_triplet', 'frame_nce', 'frame_triplet'}
TEXT = {'diversity', 'structure'}
GENERATION = {'variational', 'diffusion'}


@pytest.mark.parametrize(
  ('overrides', 'terms'),
  [
    ({'model.num_registers': 0}, SIMILARITY | TEXT),
    ({'model.register_source': 'adaptive_pooling'}, SIMILARITY | TEXT),
    (
      {'model.register_source': 'sampler'},
      SIMILARITY | TEXT | {'variational'},
    ),
    ({'model.register_start': 'random'}, SIMILARITY | TEXT | {'diffusion'}),
    ({'model.register_start': 'stochastic'}, SIMILARITY | TEXT | GENERATION),
    (
      {'loss.diversity': 0.0, 'loss.structure': 0.0},
      SIMILARITY | GENERATION,
    ),
    (
      {
        'model.sampling_method': 'ddim',
        'model.sampling_steps': 3,
        'model.time_embedding': 'sinusoidal',
        'model.query_encodings': 1,
        'dtype': 'bfloat16',
      },
      SIMILARITY | TEXT | GENERATION,
    ),
  ],
)
def test_options_of_the_ablation(overrides, terms):
  """Each is a line of config; a loss without its inputs is left out."""
  config = config_of('charades')
  config.update_from_flattened_dict(overrides)
  state, scalars = step_shapes(config)
  losses = {name for name in scalars if name.startswith('loss/')}
  assert losses == {f'loss/{name}' for name in terms | {'total'}}
  dtypes = {leaf.dtype for leaf in jax.tree.leaves(state.params)}
  assert dtypes == {jax.numpy.dtype('float32')}


def test_unknown_model_is_refused():
  with pytest.raises(
    ValueError, match=r"'other'; the models are \['dreamprvr'"
  ):
    config_of('tvr', 'other')


def test_misspelt_key_is_refused():
  with pytest.raises(AttributeError, match='epohcs'):
    config_of('tvr').train.epohcs = 3


def test_every_key_is_explained_in_help():
  explained = {
    row.partition('=')[0].removeprefix('--config.') for row in config_keys()
  }
  assert set(keys(plain_config(config_of('tvr')))) == explained


def test_every_key_is_read():
  """Sections that go as a whole into a constructor are read by its fields."""
  wholesale = {'model', 'loss'}
  read = set()
  for folder in ('modes', 'dreamprvr_jax/interop'):
    for path in (ROOT / folder).glob('*.py'):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
          read.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
          read.add(node.value)
  for key in keys(plain_config(config_of('tvr'))):
    if key.partition('.')[0] not in wholesale:
      assert key.rpartition('.')[2] in read, key
