"""The features of an index are those that --append reads."""

import pytest

from configs import common
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.cli import origins
from dreamprvr_jax.cli.implied import is_set
from dreamprvr_jax.errors import UserError


def config_of(**data):
  config = common.with_model(common.base_config(), '').unlock()
  config.data.update(data)
  return config.lock()


def write(place, archive):
  place.mkdir(exist_ok=True)
  Manifest('x', '0' * 16, 'float16', 1, 1, 1, (), archive=archive).write(place)


def test_an_index_remembers_its_features(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  made = config_of(root='mine', collection='videos', feature='extracted')
  write(tmp_path / 'index', origins.origin_of(made, all_videos=True))
  trained_on = config_of(root='/others', collection='tvr')
  found = origins.with_origin(trained_on, 'index', is_named=False)
  assert found.data.root == str(tmp_path / 'mine')
  assert (found.data.collection, found.data.feature) == ('videos', 'extracted')
  assert origins.takes_all(found, Manifest.read('index'))
  # Other features are named, so that --all_videos has to be, too.
  named = found.copy_and_resolve_references().unlock()
  named.data.root = '/named'
  assert not origins.takes_all(named, Manifest.read('index'))


def test_an_index_without_memory_takes_no_features_by_itself(tmp_path):
  write(tmp_path / 'index', {})
  with pytest.raises(UserError, match='does not say which features'):
    origins.with_origin(config_of(), str(tmp_path / 'index'), is_named=False)
  config = config_of(root='/named')
  index = str(tmp_path / 'index')
  assert origins.with_origin(config, index, is_named=True) == config
  assert not origins.takes_all(config, Manifest.read(index))


@pytest.mark.parametrize(
  ('given', 'found'),
  [
    (['--append'], True),
    (['-append'], True),
    (['--append=true'], True),
    (['--append=False'], False),
    (['--append', '--noappend'], False),
    (['--index=append', 'append', '--appendix'], False),
  ],
)
def test_append_has_the_forms_of_every_flag(given, found):
  assert is_set(['dreamprvr', 'index', *given], 'append') == found
