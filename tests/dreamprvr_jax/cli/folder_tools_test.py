"""Encoder and retriever of an index of folders, with a trained checkpoint."""

import json

import pytest

import main
from dreamprvr_jax import checkpoints
from dreamprvr_jax.archive.encoders import build
from dreamprvr_jax.archive.index.store import open_index
from dreamprvr_jax.cli import flags, provenance
from dreamprvr_jax.trained.inference import blank_of, model_of
from tests.helpers import models, runs
from tests.helpers.videos import make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A checkpoint of a small model for the embedded encoder, and two videos."""
  place = tmp_path_factory.mktemp('tools')
  config = flags.parse(
    [
      'main.py',
      f'--config={runs.ROOT}/configs/videos.py:gmmformer',
      '--config.model.width=16',
      '--config.model.num_heads=2',
      '--config.data.num_clips=4',
      '--config.data.max_frames=16',
    ]
  ).config
  plain, encoder = provenance.plain_config(config), build('embedded')
  widths = encoder.visual_width, encoder.text_width
  variables = models.drawn(model_of(plain), blank_of(plain, *widths))
  stored = {
    'config': plain,
    'visual_width': widths[0],
    'text_width': widths[1],
    'encoder': encoder.identity,
  }
  checkpoints.save_weights(place / 'checkpoint', variables, stored)
  (place / 'videos').mkdir()
  make_video(place / 'videos' / 'short.mp4', pictures=30)
  make_video(place / 'videos' / 'long.mp4', pictures=200)
  return place


def call(place, *arguments):
  return main.main(
    [
      'main.py',
      '--mode=index',
      f'--videos={place}/videos',
      f'--checkpoint={place}/checkpoint',
      '--workers=1',
      '--noprogress',
      *map(str, arguments),
    ]
  )


def test_a_trained_model_indexes_videos_in_parts(place, tmp_path, capsys):
  index = tmp_path / 'index'
  parts = (
    '--config.archive.part_seconds=8',
    '--config.archive.overlap_seconds=2',
  )
  assert not call(place, f'--index={index}', *parts)
  store, retriever = open_index(index)
  assert retriever.checkpoint == str(place / 'checkpoint')
  assert store.manifest.archive['encoder']['name'] == 'embedded'
  assert {name: len(rows) for name, rows in store.rows_of().items()} == {
    'short.mp4': 1,
    'long.mp4': 3,
  }
  assert store.take('starts', store.rows_of()['long.mp4']).tolist() == (
    pytest.approx([0, 6, 12], abs=1)
  )
  make_video(place / 'videos' / 'short.mp4', pictures=40)
  assert not call(place, f'--index={index}')
  assert '1 changed, 0 moved' in capsys.readouterr().out


def test_another_encoder_is_refused(place, tmp_path, capsys):
  copy = tmp_path / 'checkpoint'
  stored = checkpoints.read_config(place / 'checkpoint')
  copy.mkdir()
  (copy / 'config.json').write_text(
    json.dumps({**stored, 'encoder': {**stored['encoder'], 'version': 0}})
  )
  index = f'--index={tmp_path}/index'
  asked = f'--checkpoint={copy}', '--encoder=embedded'
  assert call(place, index, *asked) == 2
  assert 'version: 0 there, 1 here' in capsys.readouterr().err
  (copy / 'config.json').write_text(json.dumps({**stored, 'encoder': None}))
  assert call(place, index, *asked) == 2
  assert 'does not say which encoder' in capsys.readouterr().err
  assert call(place, index, '--retriever=tf_prvr') == 2
  assert 'needs no checkpoint' in capsys.readouterr().err
  assert call(place, index, '--config.model.beta=0.1') == 2
  assert 'config.model is set' in capsys.readouterr().err
