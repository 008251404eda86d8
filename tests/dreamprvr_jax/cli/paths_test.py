"""`~` in every flag and key that names a path."""

import functools
import re

import pytest
from ml_collections import ConfigDict

from configs.common import base_config
from dreamprvr_jax.cli import flags, paths
from dreamprvr_jax.cli.options import OPTIONS
from dreamprvr_jax.errors import UserError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  (tmp_path / 'home').mkdir()
  return tmp_path / 'home'


def test_every_flag_with_a_path_in_its_sign_is_one():
  for name, option in OPTIONS.items():
    signs = {'DIR', 'PATH', 'FILE'}
    named = signs & set(re.findall('[A-Z]+', option.metavar))
    assert bool(option.path) == bool(named) or name in paths.BEHIND, name


def test_every_text_key_is_a_path_or_is_none():
  """A new key must be added to one of the two lists."""
  keys = {}

  def walk(config, prefix=''):
    for key, value in config.items():
      if isinstance(value, ConfigDict):
        walk(value, f'{prefix}{key}.')
      elif isinstance(value, str):
        keys[prefix + key] = value

  walk(base_config())
  # Only folders and files have the default '', 'auto' for a folder of the user,
  # or 'data'.
  others = {
    'archive.retriever',
    'data.text_feature',
    'data.eval_split',
    'rerank.correction',
  }
  empty = {key for key, value in keys.items() if value in ('', 'data')}
  folders = {'compilation_cache'}
  assert {keys[key] for key in folders} == {'auto'}
  assert (empty | folders) - others == set(paths.KEYS)


def parsed(*arguments, command='import'):
  return flags.parse(['main.py', command, *arguments])


@pytest.mark.parametrize('form', ['--{}={}', '-{}={}', '--{} {}'])
@pytest.mark.parametrize('name', paths.FLAGS)
def test_flags(name, form, home):
  """`~` is replaced before parsing, which already reads some of the files."""
  found = paths.in_arguments(form.format(name, '~/a/b').split())
  assert ' '.join(found).replace(' ', '=') == form.replace(' ', '=').format(
    name, f'{home}/a/b'
  )


def test_the_home_itself_and_several_paths(home):
  assert parsed('--out=~').out == str(home)
  values = parsed('--annotations=~/a.jsonl,b.jsonl,~/c~.json')
  assert values.annotations == f'{home}/a.jsonl,b.jsonl,{home}/c~.json'


def test_paths_behind_something_else(home):
  index = functools.partial(parsed, command='index')
  assert index('--remove=@~/ids.txt').remove == f'@{home}/ids.txt'
  assert index('--remove=~a,b').remove == '~a,b'
  extract = functools.partial(parsed, command='extract')
  assert extract('--encoder=clip:~/model').encoder == f'clip:{home}/model'
  assert extract('--encoder=embedded').encoder == 'embedded'


@pytest.mark.parametrize('value', ['a/~/b', './~x', 's3://~/x', '', 'a~'])
def test_other_signs_stay(value):
  assert parsed(f'--out={value}').out == value
  assert parsed(f'--collection=~{value}').collection == f'~{value}'


def test_an_official_checkpoint_is_looked_for_at_home(home):
  with pytest.raises(FileNotFoundError) as caught:
    parsed('--official=~/none.pth')
  assert caught.value.filename == str(home / 'none.pth')


CONFIG = """
from configs import common

def get_config(model=''):
  config = common.base_config()
  for key, value in {keys!r}.items():
    config.update_from_flattened_dict({{key: value}})
  return config.lock()
"""


@pytest.mark.parametrize('key', paths.KEYS)
@pytest.mark.parametrize('form', ['--config.{}={}', '--config.{} {}'])
def test_keys(key, form, home):
  (home / 'mine.py').write_text(CONFIG.format(keys={}))
  values = parsed('--config=~/mine.py', *form.format(key, '~/a,~/b').split())
  assert values.config.to_dict() != base_config().to_dict()
  found = values.config
  for part in key.split('.'):
    found = found[part]
  assert found == f'{home}/a,{home}/b'


def test_keys_that_a_config_sets(home):
  keys = {key: f'~/{key}' for key in paths.KEYS}
  (home / 'mine.py').write_text(CONFIG.format(keys=keys))
  config = parsed('--config', '~/mine.py:hlformer').config
  for key in paths.KEYS:
    found = config
    for part in key.split('.'):
      found = found[part]
    assert found == f'{home}/{key}'


def test_a_user_that_there_is_not():
  with pytest.raises(UserError) as caught:
    parsed('--out=~nobody-of-that-name/x')
  assert "of 'nobody-of-that-name' is not known" in str(caught.value)
  assert './~nobody-of-that-name/x' in str(caught.value)
