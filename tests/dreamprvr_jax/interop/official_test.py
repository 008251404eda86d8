"""Released state dicts of every model, from and to our weights."""

import jax
import numpy as np
import pytest

from configs import common
from dreamprvr_jax.interop import official, released_config
from dreamprvr_jax.interop.layouts import LAYOUTS
from dreamprvr_jax.interop.rules import WeightsError
from dreamprvr_jax.models.registry import MODELS
from tests.helpers import golden as files
from tests.helpers import models

FILES = {
  'diffusionret': 'diffusionret_tiny',
  'dreamprvr': 'dreamprvr_tiny',
  'gmmformer': 'gmmformer_tiny',
  'gmmformer_v2': 'gmmformer_v2_tiny',
  'hlformer': 'hlformer_tiny',
  'holmes': 'holmes_tiny',
  'holmes_multi': 'holmes_multi_tiny',
  'ms_sl': 'ms_sl_tiny',
  'msc': 'msc_tiny',
  'ral': 'ral_tiny',
}
# DiffusionRet does not project the features of CLIP.
WIDTHS = {'diffusionret': (32, 32)}
OPTIONS = {
  'diffusionret': {'num_positions': 77, 'max_frames': 64},
  'hlformer': {'lorentz_dim': 27},
  'dreamprvr': {'num_registers': 3},
}
every_model = pytest.mark.parametrize('name', FILES)


def released(name):
  """Returns a state dict of the released program, by its own names."""
  if name == 'diffusionret':
    return made_state()
  state = files.part(files.load(FILES[name]), 'params')
  if name == 'holmes_multi':
    # The file has only the additional tensors.
    state = {**released('holmes'), **state}
  return state


def made_state():
  """Returns the tensors of DiffusionRet's second stage, with made-up values."""
  file = files.part(files.load('diffusionret_tiny'), 'params')
  shapes = {
    'clip.visual.proj': (8, 32),
    'clip.token_embedding.weight': (9, 32),
    'frame_position_embeddings.weight': (77, 32),
  }
  for i in range(4):
    block = f'transformerClip.resblocks.{i}'
    for name, rows, columns in (
      ('attn.in_proj_', 96, 32),
      ('attn.out_proj.', 32, 32),
      ('mlp.c_fc.', 128, 32),
      ('mlp.c_proj.', 32, 128),
    ):
      shapes[f'{block}.{name}weight'] = (rows, columns)
      shapes[f'{block}.{name}bias'] = (rows,)
    for j in (1, 2):
      shapes[f'{block}.ln_{j}.weight'] = shapes[f'{block}.ln_{j}.bias'] = (32,)
  rng = np.random.default_rng(0)
  draw = lambda shape: rng.normal(size=shape).astype(np.float32)
  return {**file, **{name: draw(shape) for name, shape in shapes.items()}}


def template(name):
  model = models.make(name, width=32, **OPTIONS.get(name, {}))
  widths = WIDTHS.get(name, (24, 20))
  return files.shapes(model, *widths, model.max_words, model.max_frames)


def test_released_models_have_a_layout():
  # A model without a released program needs none.
  assert set(LAYOUTS) == set(FILES) <= set(MODELS)


@every_model
def test_recognised_whatever_the_prefix(name):
  state = released(name)
  assert official.model_of_state(state) == name
  prefixed = {f'module.{key}': value for key, value in state.items()}
  assert official.model_of_state(prefixed) == name


@every_model
def test_there_and_back(name):
  state = released(name)
  variables = official.from_official(state, template(name), name)
  shapes = jax.tree.map(np.shape, variables)
  assert shapes == jax.tree.map(lambda s: s.shape, template(name))
  back = official.to_official(variables, name)
  ignored = {
    key for key in state if any(part in key for part in LAYOUTS[name].ignored)
  }
  assert set(back) == set(state) - ignored
  for key, value in back.items():
    np.testing.assert_array_equal(value, state[key], err_msg=key)


@every_model
def test_missing_and_unknown_tensors_are_named(name):
  state = released(name)
  gone = 'query_encoder.self.query.weight'
  if name == 'diffusionret':
    gone = 'text_weight_fc.0.weight'
  state['odd.weight'] = state.pop(gone)
  with pytest.raises(
    WeightsError, match=f'released {name} model: missing {gone}; not known odd'
  ):
    official.from_official(state, template(name), name)


@every_model
def test_sizes_and_numbers_of_the_file(name):
  given = {
    'hidden_size': 32,
    'n_heads': 4,
    'lr': 1e-3,
    'loss_factor': [0.5, 0.25, 0.125],
  }
  found = released_config.overrides(given, released(name))
  model = found['model']
  assert (model['name'], model['width']) == (name, 32)
  built = models.make(name, **{k: v for k, v in model.items() if k != 'name'})
  # All definitions of a model's released widths agree.
  ours = common.with_model(common.base_config(), name).model
  for key in ('block_widths', 'lorentz_widths'):
    if key in model:
      assert model[key] == ours[key]
  assert built.width == 32
  if name != 'diffusionret':
    assert found['data']['max_words'] == (77 if name == 'msc' else 30)
  assert found['optimizer']['lr'] == 1e-3
  if name not in ('ms_sl', 'diffusionret'):
    assert found['loss']['clip_nce'] == 0.5
  widths = WIDTHS.get(name, (24, 20))
  assert released_config.feature_widths(released(name)) == widths
  with pytest.raises(WeightsError, match=r'hidden_size = 48.*tensors show 32'):
    released_config.overrides({'hidden_size': 48}, released(name))


def test_foreign_state_dict():
  with pytest.raises(WeightsError, match=r'none of dreamprvr.*has backbone'):
    official.model_of_state({'backbone.weight': np.zeros(3)})
