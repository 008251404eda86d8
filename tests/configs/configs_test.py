"""Every config builds its model, and every key is read somewhere."""

import ast
import importlib
import pathlib

import jax
import pytest

from configs.common import MODELS, TRAINED, VARIANTS, declare_all
from configs.keys import DESCRIPTIONS, Keys
from configs.keys import key as declared
from dreamprvr_jax import rng
from dreamprvr_jax.cli.provenance import plain_config
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.objectives.registry import build_objective
from dreamprvr_jax.objectives.terms import TERMS
from dreamprvr_jax.train.bert_adam import bert_adam, warmup_linear
from dreamprvr_jax.train.step import create_state, update
from dreamprvr_jax.trained.inference import blank_of, model_of, shapes_of
from dreamprvr_jax.types import parameter_count

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ('activitynet', 'charades', 'tvr', 'quickstart', 'videos')
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


# (dataset, model) -> its special settings, and its number of parameters if that
# is known.
FAMILY = {
  ('tvr', 'ms_sl'): (
    {'optimizer.lr': 2.5e-4, 'loss.margin': 0.1, 'loss.guided_nce': 0.04},
    4_852_992,
  ),
  ('charades', 'ms_sl'): (
    {'model.clip_weight': 0.5, 'loss.frame_triplet': 0.0},
    3_370_752,
  ),
  ('charades', 'gmmformer'): (
    {'loss.frame_nce': 0.02, 'model.dropout': 0.15, 'loss.diversity': 0.005},
    11_366_016,
  ),
  ('tvr', 'gmmformer'): (
    {'train.hard_negative_epoch': 30, 'loss.diversity_version': 1},
    12_848_256,
  ),
  ('activitynet', 'gmmformer_v2'): (
    {'loss.matching': 0.11, 'model.dropout': 0.31},
    30_791_200,
  ),
  ('tvr', 'gmmformer_v2'): (
    {'loss.matching': 0.09, 'model.merge_temperature': 0.09},
    32_273_440,
  ),
  ('tvr', 'hlformer'): (
    {'loss.cone': 1e-3, 'loss.matching': 0.0, 'optimizer.lr': 3e-4},
    29_911_483,
  ),
  ('activitynet', 'hlformer'): ({'model.lorentz_dim': 127}, 28_429_243),
  # The released program has an unused token, which is left out.
  ('activitynet', 'holmes'): (
    {'loss.inter_evidence': 0.06, 'loss.intra_evidence': 1e-4},
    30_791_200 - 384,
  ),
  ('tvr', 'holmes'): (
    {'loss.inter_temperature': 0.05, 'train.patience': 20},
    32_273_440 - 384,
  ),
  ('tvr', 'holmes_multi'): (
    {
      'train.epochs': 150,
      'loss.inter_evidence': 0.01,
      'loss.diversity': 8e-5,
      'model.clip_weight': 0.5,
    },
    34_345_121 - 384,
  ),
  ('activitynet', 'ral'): (
    {
      'loss.proxy_matching': 4e-3,
      'loss.proxy_divergence': 2.5e-4,
      'loss.matching': 0.11,
      'model.clip_weight': 0.6,
    },
    34_145_953,
  ),
  ('tvr', 'ral'): (
    {'train.epochs': 150, 'train.patience': 15, 'model.frame_weight': 0.5},
    35_529_377,
  ),
  ('tvr', 'msc'): (
    {'data.max_words': 77, 'loss.distances': 15.0, 'loss.clip_nce': 0.05},
    30_660_640,
  ),
}
WIDTHS = {'activitynet': (1024, 1024), 'charades': (1024, 1024)}


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


@pytest.mark.parametrize(('name', 'model'), FAMILY)
def test_published_numbers_of_the_family(name, model):
  config = config_of(name, model)
  values, parameters = FAMILY[name, model]
  for key, value in values.items():
    section, _, rest = key.partition('.')
    assert config[section][rest] == value, key
  widths = WIDTHS.get(name, (3072, 768))
  if model == 'msc':
    widths = (768, 768)
  plain = plain_config(config)
  shapes = shapes_of(model_of(plain), plain, *widths)
  assert parameter_count(shapes) == parameters


def parts_of(config, execution='batched'):
  """Returns the model of a config, its objective, and a batch.

  Args:
    config: The config.
    execution: How parallel blocks are computed: 'batched' is traced in a
      fraction of the time of the eight blocks that 'auto' unrolls.
  """
  config = plain_config(config)
  if 'parallel_execution' in config['model']:
    config['model']['parallel_execution'] = execution
  model = model_of(config)
  objective = build_objective(config['model']['name'], model, **config['loss'])
  return model, objective, blank_of(config, 24, 20)


def variables_of(model, batch, rngs):
  params = {'params': rng.stream_key(0, 'init')}
  variables = model.init({**params, **rngs}, batch)
  return {k: v for k, v in variables.items() if k != 'intermediates'}


def stream_keys():
  return {s: rng.stream_key(0, s) for s in rng.STREAMS if s != 'init'}


def loss_shapes(config):
  """Returns the shapes of the parameters and of the losses by name.

  Without gradients, whose tracing would take longer than all the rest: they
  are the subject of the models' own tests.
  """
  model, objective, batch = parts_of(config)

  def losses():
    rngs = stream_keys()
    params = {'params': rng.stream_key(0, 'init')}
    output, variables = model.init_with_output(
      {**params, **rngs}, batch, train=True
    )
    ranks = objective.draw(rngs['negatives'], batch, True)
    return variables['params'], objective(output, batch, ranks)[1]

  return jax.eval_shape(losses)


@pytest.mark.parametrize('name', NAMES)
def test_a_model_of_each_config(name):
  config = plain_config(config_of(name))
  assert shapes_of(model_of(config), config, 24, 20)['params']


@pytest.mark.parametrize(
  'name',
  [
    'activitynet',
    'quickstart',
    *(
      pytest.param(name, marks=pytest.mark.long)
      for name in ('charades', 'tvr', 'videos')
    ),
  ],
)
def test_steps_under_eval_shape(name):
  config = config_of(name)
  model, objective, batch = parts_of(config, config.model.parallel_execution)
  optimizer = bert_adam(warmup_linear(config.optimizer.lr, 100))

  def step():
    return update(
      create_state(variables_of(model, batch, stream_keys()), optimizer),
      batch,
      model=model,
      objective=objective,
      optimizer=optimizer,
      seed=0,
      hard_from_step=10,
    )

  state, scalars = jax.eval_shape(step)
  assert scalars['loss/total'].shape == ()
  assert state.params['clip_encoder']['merger']['logits']['kernel'].shape == (
    config.model.width,
    config.data.num_clips,
  )


@pytest.mark.parametrize(
  'name', ['tvr', pytest.param('qvhighlights', marks=pytest.mark.long)]
)
@pytest.mark.parametrize('model', TRAINED)
def test_every_model_has_its_losses(name, model):
  config = config_of(name, model)
  _, losses = loss_shapes(config)
  assert set(losses) == {key for key in TERMS if config.loss[key]}


@pytest.mark.parametrize('model', TRAINED)
def test_every_model_fits_qvhighlights(model):
  config = plain_config(config_of('qvhighlights', model))
  assert shapes_of(model_of(config), config, 24, 20)['params']
  build_objective(model, model_of(config), **config['loss'])


def with_all_inputs(model):
  """Returns a small config whose data and model provide all loss inputs."""
  config = config_of('quickstart', model).unlock()
  config.data.clips = 'merged'
  if 'alignment' in config.model:
    config.model.alignment = True
  if 'trace' in config.model:
    config.model.trace = 'query'
  return config


GUIDED = {'guided_nce', 'guided_triplet'}
REFUSED = {
  'ms_sl': {'frame_nce', 'frame_triplet', 'inter_evidence', 'alignment'},
  'gmmformer': {*GUIDED, 'alignment'},
  'diffusionret': {
    *GUIDED,
    'clip_nce',
    'clip_triplet',
    'frame_nce',
    'frame_triplet',
    'matching',
    'inter_evidence',
    'intra_evidence',
    'alignment',
  },
}
ONLY = {
  'interaction': 'diffusionret',
  'variational': 'dreamprvr',
  'diffusion': 'dreamprvr',
  'cone': 'hlformer',
  'proxy_matching': 'ral',
  'proxy_divergence': 'ral',
  'trace_nce': 'dreamprvr',
  'trace_triplet': 'dreamprvr',
}


def refused(model):
  return REFUSED.get(model, GUIDED) | {
    loss for loss, owner in ONLY.items() if owner != model
  }


@pytest.mark.parametrize('model', TRAINED)
def test_a_model_takes_every_loss_that_it_has_the_inputs_of(model):
  config = with_all_inputs(model)
  wanted = set(TERMS) - refused(model)
  for loss in wanted:
    config.loss[loss] = 0.5
  _, losses = loss_shapes(config)
  assert wanted <= set(losses)


@pytest.mark.parametrize('model', TRAINED)
def test_other_losses_are_refused(model):
  for loss in refused(model):
    config = plain_config(with_all_inputs(model))
    with pytest.raises(
      UserError, match=f'config.loss.{loss} is 0.5, but {model} has no'
    ):
      build_objective(model, model_of(config), **{**config['loss'], loss: 0.5})


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
  """Each option is a config key; a loss without its inputs is left out."""
  config = config_of('charades')
  config.update_from_flattened_dict(overrides)
  params, losses = loss_shapes(config)
  assert set(losses) == terms
  dtypes = {leaf.dtype for leaf in jax.tree.leaves(params)}
  assert dtypes == {jax.numpy.dtype('float32')}


def test_unknown_model_is_refused():
  with pytest.raises(
    ValueError, match=r"'other'; the models are \['best_frame'"
  ):
    config_of('tvr', 'other')


def test_misspelt_key_is_refused():
  with pytest.raises(AttributeError, match='epohcs'):
    config_of('tvr').train.epohcs = 3


def test_every_key_is_described():
  declare_all()
  there = set()
  for model in (*MODELS, *VARIANTS):
    there |= set(keys(plain_config(config_of('tvr', model))))
  assert there == set(DESCRIPTIONS)


def test_a_key_is_declared_before_it_is_set():
  section = Keys('section')
  section.rate = declared(0.5, 'How fast')
  section.rate = 0.25
  assert section.config.rate == section.rate == 0.25
  assert DESCRIPTIONS.pop('section.rate') == 'How fast'
  with pytest.raises(AttributeError, match='rates is not declared'):
    section.rates = 1


def test_every_key_is_read():
  """A section that is passed whole to a constructor is read by its fields."""
  wholesale = {'model', 'loss'}
  read = set()
  for folder in (
    'dreamprvr_jax/cli',
    'dreamprvr_jax/interop',
    'dreamprvr_jax/rerank',
  ):
    for path in (ROOT / folder).glob('*.py'):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
          read.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
          read.add(node.value)
  for key in keys(plain_config(config_of('tvr'))):
    if key.partition('.')[0] not in wholesale:
      assert key.rpartition('.')[2] in read, key
