"""Released files: contents beside the weights, and variants of their names."""

import argparse
import json
import pathlib
import random

import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.interop import official, released_config
from dreamprvr_jax.interop.released_file import plain, read_released
from dreamprvr_jax.interop.rules import WeightsError
from dreamprvr_jax.interop.wrappers import unwrapped
from tests.dreamprvr_jax.interop.official_test import FILES, released
from tests.helpers.released_files import config_of, easy_dict, write_file
from tests.helpers.torch_archives import (
  Call,
  Name,
  Pid,
  state_dict,
  storage,
  tensor,
  write,
)

every_model = pytest.mark.parametrize('name', FILES)


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'best.ckpt'


@every_model
def test_the_file_of_each_program(name, path):
  state = released(name)
  found = read_released(write_file(path, name, state))
  assert found.state.keys() == state.keys()
  for key, value in state.items():
    np.testing.assert_array_equal(found.state[key], value)
  if name == 'diffusionret':
    assert found.config == found.facts == {}
    return
  assert found.config.items() >= config_of(name).items()
  assert found.facts['epoch'] == (41 if name == 'ms_sl' else 34)
  numbers = [10.5, 20.25, 30, 40, 100.75]
  recorded = found.facts.get('recorded_metrics')
  if name == 'ms_sl':
    assert recorded is None
  elif name == 'dreamprvr':
    assert recorded == [*numbers, [1, 2, 3, 4, 10]]
  elif name.startswith('holmes'):
    assert recorded == [*numbers, None]
  else:
    assert recorded == numbers
  json.dumps(found.facts)


@pytest.mark.parametrize(
  'config',
  [
    {'hidden_size': 32},
    easy_dict({'hidden_size': 32}),
    argparse.Namespace(hidden_size=32),
    Call(Name('ours', 'Config'), (), ({'hidden_size': 32}, None)),
    Call(Name('ours', 'Slots'), (), (None, {'hidden_size': 32})),
    Call(Name('types', 'SimpleNamespace'), (), {'hidden_size': 32}),
  ],
)
@pytest.mark.parametrize('key', ['config', 'opt', 'args'])
def test_settings_of_any_class(path, config, key):
  tensors, members = state_dict({'w': np.ones((2, 3))})
  write(path, {'state_dict': tensors, key: config}, members)
  assert read_released(path).config == {'hidden_size': 32}


@pytest.mark.parametrize(
  ('value', 'kept'),
  [
    ([1.5, [2, None, ['a', True]]], [1.5, [2, None, ['a', True]]]),
    ((1, {'R@1': 2.5, 3: 4}), [1, {'R@1': 2.5, '3': 4}]),
    ([float('nan'), 1.0], [None, 1.0]),
    ([2**70, 1], [None, 1]),
    ([np.arange(3)], [[0, 1, 2]]),
    ([object()], None),
    ([[[[[[[[[1]]]]]]]]], None),
    (list(range(2000)), None),
  ],
)
def test_plain_facts(value, kept):
  assert plain(value) == kept


def test_a_list_that_holds_itself_is_not_plain():
  value = []
  value.append(value)
  assert plain(value) is None


@every_model
@pytest.mark.parametrize(
  'prefix',
  ['module.', '_orig_mod.', 'module.module.', 'module._orig_mod.', 'net.x.'],
)
def test_prefixes_of_wrappers(name, prefix):
  state = {f'{prefix}{key}': value for key, value in released(name).items()}
  assert official.model_of_state(state) == name
  assert unwrapped(state).keys() == released(name).keys()
  found = released_config.sizes(state)
  assert found['model']['width'] == 32


def test_wrappers_inside_names_and_counts_beside_them():
  state = {
    'module.mapping_linear._orig_mod.0.weight': 1,
    'module.query_encoder._checkpoint_wrapped_module.x': 2,
    'n_averaged': 3,
  }
  assert unwrapped(state) == {'mapping_linear.0.weight': 1,
                              'query_encoder.x': 2}  # fmt: skip


def test_names_that_become_the_same():
  state = {'module.mapping_linear.0.weight': 1, 'mapping_linear.0.weight': 2}
  with pytest.raises(WeightsError, match=r'mapping_linear\.0\.weight twice'):
    unwrapped(state)


@every_model
def test_a_bare_state_dict(name, path):
  tensors, members = state_dict(released(name))
  found = read_released(write(path, tensors, members))
  assert found.state.keys() == released(name).keys()


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    ({'state_dict': [1, 2]}, 'state_dict of .* is a list, not a dict'),
    ({'state_dict': {'a.b': 3}}, 'a.b in state_dict are not tensors'),
    (
      {'state_dict': {'a': tensor(storage(0), (7,), (1,))}},
      'in state_dict: .*needs 7 elements; found 6',
    ),
    ({'state_dict': Pid('x')}, 'state_dict of .*: unknown kind of external'),
    ({'weird': 3, 4: 5}, 'holds a dict of weird, int'),
    ([1], 'holds list'),
  ],
)
def test_files_without_readable_weights(path, value, text):
  write(path, value, {'data/0': np.zeros(6, '<f4').tobytes()})
  with pytest.raises(UserError, match=text):
    read_released(path)


LEAVES = (
  None,
  True,
  -3,
  2**70,
  1.5,
  float('nan'),
  'text',
  b'raw',
  np.float64(2.5),
  np.array([1.0, 2.0]),
  pathlib.PurePosixPath('/a'),
  argparse.Namespace(a=1),
  Name('torch', 'float32'),
  Name('who', 'knows'),
  Call(Name('torch', 'device'), ('cuda', 0)),
  Call(Name('os', 'system'), ('true',)),
  Call(Name('torch.optim', 'Adam'), (1, 2), {'state': {1: [2]}}),
  Call(Name('numpy.core.multiarray', '_reconstruct'), (), state=('odd',)),
  Call(Name('torch._utils', '_rebuild_tensor_v2'), (1, 2)),
  Pid(('module', 1)),
  tensor(storage('none there'), (2,), (1,)),
  Call(Name('collections', 'OrderedDict'), items=(('x', 1), (2, None))),
)


def anything(rng, depth=0):
  """Returns a random nested value that a file might hold."""
  kind = rng.randrange(5) if depth < 4 else 0
  count = rng.randrange(4) if kind else 0
  several = [anything(rng, depth + 1) for _ in range(count)]
  if kind == 1:
    return several
  if kind == 2:
    return tuple(several)
  if kind == 3:
    keys = ['a', 'epoch', 7, None, (1, 'b'), 'state_dict']
    return {rng.choice(keys): value for value in several}
  if kind == 4:
    return easy_dict({f'k{i}': value for i, value in enumerate(several)})
  return rng.choice(LEAVES)


SIZES = {'hidden_size', 'n_heads', 'max_ctx_l', 'max_desc_l', 'map_size'}


@pytest.mark.parametrize('seed', range(3))
def test_anything_beside_the_weights_never_stops(seed, path):
  rng = random.Random(seed)
  state = released('dreamprvr')
  sizes = released_config.sizes(state)
  config = {**config_of('dreamprvr'), 'num_diffusion_layers': 2}
  for _ in range(12):
    changes = {
      key: anything(rng)
      for key in ('epoch', 'model_val', 'optimizer', 'extra', 'args')
    }
    if rng.randrange(3):
      changes['config'] = {
        **config,
        **{key: anything(rng) for key in config if key not in SIZES},
        # Sizes that are not whole numbers.
        'hidden_size': rng.choice([None, 'a', [32], 1.5, True]),
        'num_registers': None,
        'timesteps': {},
      }
    else:
      changes['config'] = rng.choice([None, 3, [1], 'x', Pid('y'), LEAVES[15]])
    found = read_released(write_file(path, 'dreamprvr', state, **changes))
    assert found.state.keys() == state.keys()
    json.dumps(found.facts, allow_nan=False)
    ours = released_config.overrides(found.config, found.state)
    assert ours['model'].items() >= sizes['model'].items()
    json.dumps(ours, allow_nan=False)


@pytest.mark.parametrize(
  ('name', 'said', 'section', 'key', 'ours'),
  [
    ('msc', {}, 'data', 'feature', 'charades_clip_L14.h5'),
    ('msc', {}, 'data', 'text_feature', 'charades_clip_L14.h5'),
    ('msc', {}, 'data', 'merge_threshold', 0.85),
    ('msc', {}, 'loss', 'distances', 12.0),
    ('msc', {}, 'data', 'num_clips', 32),
    ('msc', {'collection': 'act'}, 'data', 'collection', 'activitynet'),
    (
      'msc',
      {'collection': 'qvhighlight', 'visual_feature': 'clipsf'},
      'data',
      'feature',
      'qvhighlight_slowfast_clip.h5',
    ),
    (
      'msc',
      {'collection': 'qvhighlight', 'visual_feature': 'clipsf'},
      'data',
      'text_feature',
      'qvhighlight_slowfast_clip_text.h5',
    ),
    ('gmmformer', {}, 'model', 'frame_length', 'batch'),
    ('gmmformer', {}, 'data', 'eval_video_batch', 100),
    ('holmes', {'edl_tau': 0.05}, 'loss', 'inter_temperature', 0.05),
    ('holmes', {'max_es_cnt': 20.0}, 'train', 'patience', 20),
    ('hlformer', {}, 'model', 'merge_temperature', 0.09),
  ],
)
def test_settings_in_our_terms(name, said, section, key, ours):
  found = released_config.overrides({**config_of(name), **said}, released(name))
  assert found[section][key] == ours


@pytest.mark.parametrize(
  ('said', 'section', 'key'),
  [
    ({'n_heads': 7}, 'model', 'num_heads'),
    ({'sft_factor': 'warm'}, 'model', 'merge_temperature'),
    ({'sft_factor': 0}, 'model', 'merge_temperature'),
    ({'drop': 1.5}, 'model', 'dropout'),
    ({'collection': '../there'}, 'data', 'collection'),
    ({'clip_scale_w': float('nan')}, 'model', 'clip_weight'),
    ({'loss_factor': [None, 'x']}, 'loss', 'clip_nce'),
  ],
)
def test_settings_of_no_use_are_passed_over(said, section, key):
  config = {**config_of('holmes'), **said}
  found = released_config.overrides(config, released('holmes'))
  assert key not in found.get(section, {})
