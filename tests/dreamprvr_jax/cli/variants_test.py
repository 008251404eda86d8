"""The meaning of --methods and --sweep."""

import pytest

from dreamprvr_jax.cli import variants
from dreamprvr_jax.errors import UserError


def test_methods():
  text = 'ms_sl, dreamprvr+model.num_registers=0+loss.diversity=1e+3'
  one, two = variants.parse_methods(text)
  assert (one.label, one.model, one.settings) == ('ms_sl', 'ms_sl', {})
  assert two.model == 'dreamprvr'
  assert two.settings == {'model.num_registers': 0, 'loss.diversity': 1e3}
  assert two.flags == [
    '--config.model.num_registers=0',
    '--config.loss.diversity=1000.0',
  ]
  assert '/' not in two.folder


def test_values_with_commas():
  text = 'hlformer+model.block_widths=(0.0, 1.0),ms_sl'
  one, two = variants.parse_methods(text)
  assert one.settings == {'model.block_widths': (0.0, 1.0)}
  assert two.label == 'ms_sl'
  key, found = variants.parse_sweep('model.block_widths=(0.0,1.0),(2.0,)', '')
  assert key == 'model.block_widths'
  assert [v.settings[key] for v in found] == [(0.0, 1.0), (2.0,)]


def test_sweep():
  key, found = variants.parse_sweep('model.source=air,1,0.5,True', 'msc')
  assert [v.settings[key] for v in found] == ['air', 1, 0.5, True]
  assert {v.model for v in found} == {'msc'}
  assert found[0].flags == ['--config.model.source=air']


def test_nothing_is_evaluated():
  assert variants.literal('__import__("os").getcwd()').startswith('__import__')
  assert variants.literal('1+1') == '1+1'


@pytest.mark.parametrize('text', ['', 'a,,b', 'a+b', 'a=3', 'a,b,a', 'a/b'])
def test_bad_methods(text):
  with pytest.raises(UserError, match='--methods'):
    variants.parse_methods(text)


@pytest.mark.parametrize('text', ['', 'a', 'a=', '=1', 'a..b=1', 'a=1,2,1'])
def test_bad_sweeps(text):
  with pytest.raises(UserError, match='--sweep'):
    variants.parse_sweep(text, '')


def test_overrides_are_told_from_other_flags():
  arguments = ['main.py', '--config=a.py', '--config.x=1', '--seeds', '3']
  arguments += ['--config.y', '2', '--noconfig.z', '--noprogress']
  overrides, others = variants.split_overrides(arguments)
  assert overrides == ['--config.x=1', '--config.y', '2', '--noconfig.z']
  assert others == [
    'main.py',
    '--config=a.py',
    '--seeds',
    '3',
    '--noprogress',
  ]


def test_keys_that_arguments_set():
  given = ['--config=c.py', '--config.a.b=1', '-config.c', '2', '--noconfig.d']
  assert variants.keys_of(given) == ['a.b', 'c', 'd']
