"""Keys of the config that training chooses, on a small generated corpus."""

import json
import logging

import pytest

from configs import quickstart
from dreamprvr_jax.cli import sizing
from dreamprvr_jax.cli.provenance import plain_config
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from tests.helpers import commands


@pytest.fixture
def config(tmp_path):
  config = quickstart.get_config().unlock()
  config.data.root = str(tmp_path / 'data')
  config.simulated.videos = (17, 4, 4)
  config.train.sizing = 'auto'
  return config.lock()


def sized(config, workdir, given=()):
  return sizing.sized(config, workdir, given, meshes.make_mesh(1))


def keep(config, workdir):
  workdir.mkdir()
  stored = {'config': plain_config(config)}
  (workdir / 'config.json').write_text(json.dumps(stored))


def test_values_by_the_data_are_used_and_said(config, tmp_path, caplog):
  with caplog.at_level(logging.INFO):
    found = sized(config, tmp_path / 'run')
  assert found.data.batch_size == 9
  assert found.train.epochs == 20
  assert found.data.max_words % 8 == 0
  assert found.data.max_words < config.data.max_words
  assert 'chosen for 17 videos: data.batch_size=9, ' in caplog.text
  assert config.data.batch_size == 48
  assert found.is_locked


def test_keys_of_the_command_line_stay(config, tmp_path):
  given = ('data.batch_size', 'train.epochs')
  found = sized(config, tmp_path / 'run', given)
  assert found.data.batch_size == config.data.batch_size
  assert found.train.epochs == config.train.epochs
  assert found.data.max_words < config.data.max_words


def test_numbers_as_given_are_the_default(config, tmp_path):
  with config.unlocked():
    config.train.sizing = 'given'
  assert sized(config, tmp_path / 'run') is config
  assert not (tmp_path / 'data').exists()


def test_a_run_that_goes_on_keeps_its_own(config, tmp_path):
  first = sized(config, tmp_path / 'run').unlock()
  first.data.batch_size = 5
  keep(first, tmp_path / 'run')
  assert sized(config, tmp_path / 'run').data.batch_size == 5
  kept = sizing.as_stored(config, tmp_path / 'run', ())
  assert plain_config(kept) == plain_config(first)
  given = sized(config, tmp_path / 'run', ('data.batch_size',))
  assert given.data.batch_size == config.data.batch_size
  # A run with other numbers is refused later, by its own sentence.
  first.train.sizing = 'given'
  (tmp_path / 'run').rename(tmp_path / 'former')
  keep(first, tmp_path / 'run')
  assert sizing.as_stored(config, tmp_path / 'run', ()) is config


def test_merged_clips_keep_their_frames(config, tmp_path):
  with config.unlocked():
    config.data.clips = 'merged'
    config.data.max_frames = 128
  assert sized(config, tmp_path / 'run').data.max_frames == 128


def test_an_unknown_way_is_refused(config, tmp_path):
  with config.unlocked():
    config.train.sizing = 'small'
  with pytest.raises(UserError, match="'small'; choose one of"):
    sized(config, tmp_path / 'run')


def test_a_mean_over_no_epochs_is_refused(tmp_path, capsys):
  code = commands.call(
    '--config=quickstart', f'--workdir={tmp_path}', '--config.train.smoothing=0'
  )
  assert code == 2
  assert 'config.train.smoothing is 0; it is a' in capsys.readouterr().err
