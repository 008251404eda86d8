"""A released checkpoint: imported, evaluated, exported, and refused if bad."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import dreamprvr_jax
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from dreamprvr_jax.interop import official
from tests.helpers import models, runs
from tests.helpers.commands import answer
from tests.helpers.released import (
  MODEL,
  RELEASED,
  TEXT,
  VISUAL,
  evaluate,
  shapes,
  state_dict,
  write_place,
)
from tests.helpers.torch_archives import write_checkpoint


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A release in both layouts, a released checkpoint, and its import."""
  return write_place(tmp_path_factory.mktemp('commands'))


def expected_scores(folder):
  """Returns the scores of the bare model on one video at a time."""
  options = DataOptions(
    root=str(folder / 'hdf5'), collection='activitynet', storage='release'
  )
  split = open_corpus(options).splits['val']
  variables = official.from_official(state_dict(), shapes())
  words = split.read_captions(range(len(split.caption_ids)))
  queries = models.apply(
    MODEL, variables, *words.values(), method='encode_query'
  )

  @jax.jit
  def scores(variables, queries, video):
    tokens = MODEL.apply(variables, *video, method='encode_video')
    found = MODEL.apply(variables, queries, tokens, method='score')
    return 0.7 * found.clip + 0.3 * found.frame

  columns = [
    scores(variables, queries, tuple(split.read_videos([i]).values()))
    for i in range(len(split.video_ids))
  ]
  return split, np.concatenate(columns, axis=1)


def test_import_then_evaluate(place):
  code, out, err = evaluate(
    place, '--config.data.eval_split=val', f'--scores={place}/scores.npz'
  )
  assert code == 0, err
  split, wanted = expected_scores(place)
  with np.load(place / 'scores.npz') as file:
    assert file['scores'].dtype == np.float32
    assert file['queries'].tolist() == split.caption_ids
    assert file['videos'].tolist() == split.video_ids
    np.testing.assert_allclose(file['scores'], wanted, atol=2e-6)
  own = wanted[np.arange(len(wanted)), split.caption_video]
  ranks = 1 + (wanted > own[:, None]).sum(axis=1)
  metrics = runs.evaluation(place / 'imported', 'val')
  assert metrics['R@1'] == pytest.approx(100 * np.mean(ranks == 1))
  assert metrics['MedR'] == np.median(ranks)
  assert metrics['MeanR'] == pytest.approx(np.mean(ranks))
  assert f'split val: {len(ranks)} queries, 9 videos' in out
  assert 'clip branch' in out
  assert 'moment/video' in out


def test_both_layouts_give_equal_metrics(place):
  found = []
  for layout in ('hdf5', 'bigfile'):
    code, _, err = evaluate(
      place, f'--workdir={place}/{layout}_result', layout=layout
    )
    assert code == 0, err
    found.append(runs.evaluation(place / f'{layout}_result'))
  for metrics in found:
    metrics.pop('command')
  assert found[0] == found[1]


def test_imported_config_is_the_files_own(place):
  stored = json.loads((place / 'imported/config.json').read_text())
  config = stored['config']
  assert stored['visual_width'] == VISUAL
  assert stored['imported_from']['recorded_metrics'] == [1, 2, 3, 4, 10]
  assert config['model']['merge_temperature'] == 0.09
  assert config['model']['diffusion_steps'] == 4
  assert config['loss']['clip_nce'] == 0.05
  assert config['loss']['diversity_delta'] == 0.15
  assert config['optimizer']['lr'] == 3e-4


def test_export_and_three_lines(place):
  code, out, err = answer(
    '--mode=export',
    f'--checkpoint={place}/imported',
    f'--out={place}/exported',
  )
  assert code == 0, err
  assert 'weights.safetensors' in out
  model, variables = dreamprvr_jax.load(place / 'exported')
  words = np.ones((1, 30, TEXT), np.float32)
  mask = np.ones((1, 30), bool)
  query = models.apply(model, variables, words, mask, method='encode_query')
  assert query.shape == (1, 16)
  tensors = load_file(place / 'exported/weights.safetensors')
  kernel = variables['params']['query']['input']['projection']['linear']
  np.testing.assert_array_equal(
    tensors['params.query.input.projection.linear.kernel'], kernel['kernel']
  )
  sizes = sum(leaf.size for leaf in jax.tree.leaves(variables))
  assert sum(t.size for t in tensors.values()) == sizes
  # These are the names and numbers that the authors' program loads.
  theirs = load_file(place / 'exported/official.safetensors')
  assert theirs.keys() == state_dict().keys()
  for name, value in state_dict().items():
    assert theirs[name].shape == value.shape
    np.testing.assert_array_equal(theirs[name], value, err_msg=name)


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    (
      lambda s: s.pop('query_encoder.norm1.weight'),
      'missing query_encoder.norm1.weight',
    ),
    (
      lambda s: s.update(surplus=np.zeros(3, np.float32)),
      'not known surplus',
    ),
    (
      lambda s: s.update(
        {'query_encoder.norm1.weight': np.zeros(5, np.float32)}
      ),
      'query_encoder.norm1.weight has shape (5,)',
    ),
    (
      lambda s: s['query_encoder.norm1.weight'].fill(np.nan),
      'query_encoder.norm1.weight has NaN',
    ),
    (
      lambda s: s.pop('video_qformer.query_tokens'),
      'no tensor video_qformer.query_tokens',
    ),
  ],
)
def test_bad_checkpoints_are_refused(tmp_path, change, sentence):
  state = state_dict()
  change(state)
  write_checkpoint(tmp_path / 'bad.ckpt', state, RELEASED)
  code, _, err = answer(
    '--mode=import',
    f'--official={tmp_path}/bad.ckpt',
    f'--workdir={tmp_path}/out',
  )
  assert code == 2
  assert sentence in err
  assert 'Traceback' not in err
  assert not (tmp_path / 'out').exists()


def test_config_that_contradicts_the_tensors(tmp_path):
  write_checkpoint(
    tmp_path / 'bad.ckpt', state_dict(), {**RELEASED, 'num_registers': 9}
  )
  code, _, err = answer(
    '--mode=import',
    f'--official={tmp_path}/bad.ckpt',
    f'--workdir={tmp_path}/out',
  )
  assert code == 2
  assert 'num_registers = 9, but its tensors show 3' in err


def test_names_of_several_gpus_are_known(tmp_path):
  state = {f'module.{name}': value for name, value in state_dict().items()}
  write_checkpoint(tmp_path / 'wide.ckpt', state, RELEASED)
  code, _, err = answer(
    '--mode=import',
    f'--official={tmp_path}/wide.ckpt',
    f'--workdir={tmp_path}/out',
  )
  assert code == 0, err
