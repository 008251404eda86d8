"""What training is sized to, by number of videos and device."""

import pytest

from configs import common, sizing, videos


def chosen(videos, frames=61, words=22, devices=1, is_cpu=True):
  return sizing.chosen(
    videos=videos, frames=frames, words=words, devices=devices, is_cpu=is_cpu
  )


@pytest.mark.parametrize(
  ('videos', 'size'),
  [(1, 1), (16, 16), (17, 9), (33, 11), (1999, 16), (2000, 125)],
)
def test_batches_of_one_size(videos, size):
  assert chosen(videos)['data.batch_size'] == size


def test_devices_share_a_batch():
  assert chosen(17, devices=8)['data.batch_size'] == 16
  assert chosen(1, devices=8)['data.batch_size'] == 8


def test_a_cpu_pads_to_what_the_data_needs():
  found = chosen(17, frames=61, words=22)
  assert (found['data.max_frames'], found['data.max_words']) == (64, 24)
  assert chosen(17, frames=3)['data.max_frames'] == 32
  assert 'data.max_words' not in chosen(17, is_cpu=False)


def test_fewer_epochs_only_where_they_cost():
  assert chosen(17)['train.epochs'] == 20
  assert 'train.epochs' not in chosen(17, is_cpu=False)
  assert 'train.epochs' not in chosen(100)


def test_the_papers_batches_and_rate_for_many():
  assert chosen(10_009, is_cpu=False) == {
    'data.batch_size': 127,
    'optimizer.lr': 2.5e-4,
  }


@pytest.mark.parametrize('model', common.TRAINED)
def test_every_chosen_key_can_be_kept(model):
  config = videos.get_config(model)
  assert config.train.sizing == 'auto'
  for found in (chosen(17), chosen(3000, is_cpu=False)):
    assert found.keys() <= {*sizing.KEYS}
  for key in {*sizing.KEYS} - {'model.parallel_execution'}:
    section, _, name = key.partition('.')
    assert name in config[section]
