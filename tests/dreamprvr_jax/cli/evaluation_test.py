"""Evaluation without training, against a plain computation."""

import json

import h5py
import numpy as np
import pytest

from data_pipeline.options import SENTENCES
from dreamprvr_jax.cli import moment_metrics
from dreamprvr_jax.trained.retriever import Retriever
from dreamprvr_jax.training_free.moments import moments
from tests.helpers import commands, runs

CONFIG = f'{runs.ROOT}/configs/quickstart.py'
SPLIT = ('--config.simulated.videos=(12, 3, 9)', '--config.data.workers=1')


def evaluate(folder, model, *others):
  return commands.call(
    '--mode=evaluate',
    f'--config={CONFIG}:{model}',
    f'--config.data.root={folder}/data',
    f'--workdir={folder}/{model}',
    *SPLIT,
    *others,
  )


def expected_ranks(folder, tokens_of):
  """Returns the ranks of the right videos by the best product."""
  place = folder / 'data/simulated'
  ids = [
    line.split()[0]
    for line in (place / 'TextData/simulatedtest.caption.txt')
    .read_text()
    .splitlines()
  ]
  videos = list(dict.fromkeys(name.split('#')[0] for name in ids))
  table = (place / 'FeatureData/made/id.txt').read_text().split()
  frames = np.fromfile(place / 'FeatureData/made/feature.bin', '<f4')
  frames = frames.reshape(len(table), -1)
  owner = np.array([name.rpartition('_')[0] for name in table])
  with h5py.File(place / 'TextData/sentence_feats.hdf5') as file:
    queries = np.stack([file[name][()] for name in ids])
  queries /= np.linalg.norm(queries, axis=1, keepdims=True)
  scores = np.stack(
    [
      (queries @ tokens_of(frames[owner == video]).T).max(axis=1)
      for video in videos
    ],
    axis=1,
  )
  right = [videos.index(name.split('#')[0]) for name in ids]
  own = scores[np.arange(len(ids)), right]
  return 1 + (scores > own[:, None]).sum(axis=1)


def unit(frames):
  return frames / np.linalg.norm(frames, axis=1, keepdims=True)


@pytest.mark.parametrize(
  ('model', 'tokens_of'),
  [('best_frame', unit), ('tf_prvr', lambda frames: moments(frames)[0])],
)
def test_metrics(tmp_path, capsys, model, tokens_of):
  assert evaluate(tmp_path, model, '--moments') == 0
  found = json.loads((tmp_path / model / 'eval_test.json').read_text())
  ranks = expected_ranks(tmp_path, tokens_of)
  for k in (1, 5, 10):
    np.testing.assert_allclose(found[f'R@{k}'], 100 * (ranks <= k).mean())
  assert found['parameters'] == 0
  assert found['moments']['queries'] == len(ranks)
  assert f'{model}, without training' in capsys.readouterr().out
  # The folder is a checkpoint for other commands.
  retriever = Retriever.load(tmp_path / model)
  assert retriever.is_free
  assert retriever.checkpoint == str(tmp_path / model)
  assert (
    commands.call('--mode=evaluate', f'--checkpoint={tmp_path / model}') == 0
  )
  again = json.loads((tmp_path / model / 'eval_test.json').read_text())
  assert again['SumR'] == found['SumR']


def test_frames_of_unequal_length(monkeypatch, tmp_path):
  """The moments of tf_prvr know the borders of its tokens."""
  seen = {}

  def lists(*arguments):
    seen['edges'] = arguments[-1]
    return moment_lists(*arguments)

  moment_lists = moment_metrics.moment_lists
  monkeypatch.setattr(moment_metrics, 'moment_lists', lists)
  assert evaluate(tmp_path, 'tf_prvr', '--moments') == 0
  widths = np.diff(seen['edges'][0])
  assert widths.max() > widths.min()
  np.testing.assert_allclose(widths.sum(), 1)


def test_sentences_as_the_last_row_of_words(tmp_path, capsys):
  """A corpus like CLIP's, without a file of sentence vectors."""
  assert evaluate(tmp_path, 'best_frame') == 0
  result = tmp_path / 'best_frame/eval_test.json'
  expected = json.loads(result.read_text())
  texts = tmp_path / 'data/simulated/TextData'
  sentences, (words,) = texts / SENTENCES, texts.glob('*query_feat.hdf5')
  noise = np.random.default_rng(0)
  with (
    h5py.File(sentences) as source,
    h5py.File(texts / 'clip_simulated_query_feat.hdf5', 'w') as target,
  ):
    for name, vector in source.items():
      rows = noise.normal(size=(noise.integers(1, 5), len(vector)))
      target[name] = np.vstack([rows, vector[()]]).astype(np.float32)
  sentences.unlink()
  # The words of another encoder are not taken for sentences.
  clip = '--config.data.text_feature=clip_simulated_query_feat.hdf5'
  assert evaluate(tmp_path, 'best_frame') == 2
  assert 'the corpus has none; extract it' in capsys.readouterr().err
  assert evaluate(tmp_path, 'best_frame', clip) == 0
  found = json.loads(result.read_text())
  assert found['by_branch'] == expected['by_branch']
  words.unlink()
  assert evaluate(tmp_path, 'best_frame') == 0


def test_a_loss_that_needs_sentences(tmp_path, capsys):
  train = (
    f'--config={CONFIG}:msc',
    f'--config.data.root={tmp_path}/data',
    f'--workdir={tmp_path}/run',
    '--config.data.sentence=auto',
    *SPLIT,
  )
  assert commands.call(*train) == 2
  error = capsys.readouterr().err
  assert 'config.loss.distances is 15.0, which needs the vector' in error
  assert "set config.data.sentence='last' if" in error


def test_without_a_checkpoint(tmp_path, capsys):
  assert evaluate(tmp_path, 'gmmformer') == 2
  assert 'gmmformer is trained: give its --checkpoint' in (
    capsys.readouterr().err
  )
  assert not (tmp_path / 'data').exists()


def test_nothing_to_train(tmp_path, capsys):
  code = commands.call(
    f'--config={CONFIG}:tf_prvr', f'--workdir={tmp_path}', *SPLIT
  )
  assert code == 2
  assert 'tf_prvr needs no training' in capsys.readouterr().err


def test_bad_settings(tmp_path, capsys):
  assert evaluate(tmp_path, 'tf_prvr', '--config.model.wavelet=bior2.2') == 2
  assert 'those that work are haar' in capsys.readouterr().err
  assert evaluate(tmp_path, 'tf_prvr', '--config.model.beta=1.5') == 2
  assert 'beta is 1.5' in capsys.readouterr().err
