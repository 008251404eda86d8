"""Weights in their own folder, and JSON files: complete or unchanged."""

import os

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from dreamprvr_jax.checkpoints import (
  CheckpointError,
  best_info,
  load_weights,
  read_config,
  save_weights,
)
from tests.helpers import disks


def weights(seed, rows=500):
  bits = np.random.default_rng(seed).standard_normal((rows, 20))
  return {'params': {'kernel': bits.astype(np.float32)}}


def assert_holds(folder, seed):
  found = load_weights(folder, weights(0))['params']['kernel']
  np.testing.assert_array_equal(found, weights(seed)['params']['kernel'])
  assert read_config(folder) == {'seed': seed}


def test_weights_are_replaced_as_a_whole(tmp_path):
  for seed in (1, 2):
    save_weights(tmp_path, weights(seed), {'seed': seed})
    assert_holds(tmp_path, seed)
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'config.json',
    'seal.json',
    'weights',
  ]


def test_weights_that_cannot_be_written_keep_the_former(tmp_path):
  save_weights(tmp_path, weights(1), {'seed': 1})
  with disks.short_files(200_000), pytest.raises(CheckpointError) as e:
    save_weights(tmp_path, weights(2, rows=20_000), {'seed': 2})
  assert f'written to {tmp_path} (File too large)' in str(e.value)
  assert_holds(tmp_path, 1)
  assert len(list(tmp_path.iterdir())) == 3


def test_damaged_weights_are_named(tmp_path):
  save_weights(tmp_path, weights(1), {'seed': 1})
  largest = max(tmp_path.rglob('*'), key=lambda path: path.stat().st_size)
  os.truncate(largest, 100)
  with pytest.raises(CheckpointError) as e:
    load_weights(tmp_path, weights(0))
  assert f'{tmp_path} is damaged (weights/' in str(e.value)
  # Weights of another program have no seal: orbax itself finds the damage.
  (tmp_path / 'seal.json').unlink()
  with pytest.raises(CheckpointError, match=str(tmp_path / 'weights')):
    load_weights(tmp_path, weights(0))


def test_weights_of_other_shapes(tmp_path):
  save_weights(tmp_path, weights(1), {'seed': 1})
  narrow = jax.device_put(weights(0, rows=7))
  with pytest.raises(CheckpointError, match='cannot be read as weights of'):
    load_weights(tmp_path, narrow)


def test_weights_of_other_shapes_of_no_device(tmp_path):
  save_weights(tmp_path, weights(1), {'seed': 1})
  narrow = jax.eval_shape(lambda: weights(0, rows=7))
  with pytest.raises(CheckpointError, match=r'has the shape .* was expected'):
    load_weights(tmp_path, narrow)


@pytest.mark.parametrize('kind', [AttributeError, TypeError, RuntimeError])
def test_mistakes_of_programs_are_not_told_as_damage(
  tmp_path, monkeypatch, kind
):
  save_weights(tmp_path, weights(1), {'seed': 1})

  def fail(*_, **__):
    raise kind('a mistake')

  monkeypatch.setattr(ocp.StandardCheckpointer, 'restore', fail)
  with pytest.raises(kind, match='a mistake'):
    load_weights(tmp_path, weights(0))


def test_no_best_epoch_yet(tmp_path):
  assert best_info(tmp_path) is None
  with pytest.raises(CheckpointError, match='no epoch has been evaluated'):
    load_weights(tmp_path, weights(0))


@pytest.mark.parametrize('content', ['{"width": 3}', '[]', '{'])
def test_somebody_elses_config_stays(tmp_path, content):
  path = tmp_path / 'config.json'
  path.write_text(content)
  with pytest.raises(CheckpointError, match=r'config\.json (be|ho|is)'):
    save_weights(tmp_path, weights(1), {'seed': 1})
  assert path.read_text() == content
  assert list(tmp_path.iterdir()) == [path]
  # The config of a run, or of weights of an earlier version, is replaced.
  path.write_text('{"config": {}}')
  save_weights(tmp_path, weights(1), {'seed': 1})
  save_weights(tmp_path, weights(2), {'seed': 2})


@pytest.mark.parametrize('name', ['weights', '.weights.new', '.weights.former'])
def test_somebody_elses_folder_stays(tmp_path, name):
  note = tmp_path / name / 'note.txt'
  note.parent.mkdir()
  note.write_text('mine')
  with pytest.raises(CheckpointError, match=f'{name} is no checkpoint'):
    save_weights(tmp_path, weights(1), {'seed': 1})
  assert note.read_text() == 'mine'
  assert [path.name for path in tmp_path.iterdir()] == [name]
