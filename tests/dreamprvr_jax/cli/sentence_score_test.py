"""Commands with config.model.sentence_weight, where it cannot work."""

import dataclasses
import types

import h5py
import numpy as np
import pytest

from configs.activitynet import get_config
from data_pipeline.options import DataOptions
from dreamprvr_jax.cli import data
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever
from tests.helpers import commands, models, runs


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (
      [],
      'config.model.sentence_weight is 1.0, which needs the vector of a whole '
      'sentence, but the word features of simulated are not known to end in',
    ),
    (
      ['--config.data.sentence=last'],
      'but word features have 64 numbers and frame features 96; give features '
      'of one encoder, or set it to 0',
    ),
  ],
)
def test_training_refuses_features_that_it_cannot_compare(
  tmp_path, flags, words
):
  code, out, err = commands.answer(
    'train',
    *runs.SMALL,
    '--config.model.sentence_weight=1.0',
    f'--config.data.root={tmp_path}/data',
    f'--workdir={tmp_path}/run',
    *flags,
  )
  assert code == 2
  assert words in err
  assert 'Traceback' not in err
  assert 'epoch 1' not in out + err
  assert not (tmp_path / 'run/metrics.jsonl').exists()


@pytest.mark.parametrize(('longest', 'count'), [(3, 2), (4, 1), (5, 0)])
def test_captions_that_may_be_cut_are_reported(caplog, longest, count):
  words = np.minimum([2, 3, 4], longest)
  corpus = types.SimpleNamespace(
    options=DataOptions(sentence='last', max_words=longest),
    splits={'train': types.SimpleNamespace(num_words=words)},
  )
  config = get_config('dreamprvr')
  data.check_sentences(config, corpus, training=True)
  assert not caplog.text
  config.model.sentence_weight = 1.0
  data.check_sentences(config, corpus, training=True)
  report = f'captions with config.data.max_words={longest} rows: {count}. One'
  assert (report in caplog.text) == bool(count)


@pytest.mark.parametrize(
  ('name', 'training', 'words'),
  [
    ('msc', True, 'config.loss.distances is 15.0, which needs the vector of a'),
    ('diffusionret', True, 'the model is diffusionret, which needs the vector'),
    # What a trained model is evaluated on is what it learned from.
    ('msc', False, ''),
    ('diffusionret', False, ''),
    ('dreamprvr', True, ''),
  ],
)
def test_who_needs_sentences(name, training, words):
  options = DataOptions(root='none', text_feature='words.hdf5')
  corpus = types.SimpleNamespace(options=options, splits={})
  config = get_config(name)
  if not words:
    data.check_sentences(config, corpus, training=training)
    return
  with pytest.raises(UserError, match=words) as found:
    data.check_sentences(config, corpus, training=training)
  # The model cannot do without.
  assert ('to 0' in str(found.value)) == (name == 'msc')
  last = dataclasses.replace(options, sentence='last')
  data.check_sentences(
    config, types.SimpleNamespace(options=last, splits={}), training=training
  )


def test_evaluation_refuses_a_weight_without_sentences(tmp_path):
  """Words as wide as frames, of another encoder."""
  videos = (4, 3, 3)
  _, corpus = commands.untrained(tmp_path, 'dreamprvr', videos)
  texts = corpus.options.folder / 'TextData'
  with (
    h5py.File(texts / corpus.options.text_file) as source,
    h5py.File(texts / 'wide_query_feat.hdf5', 'w') as target,
  ):
    for name, rows in source.items():
      target[name] = np.pad(rows[()], ((0, 0), (0, 32)), mode='wrap')
  place, _ = commands.untrained(
    tmp_path,
    'dreamprvr',
    videos,
    '--config.data.text_feature=wide_query_feat.hdf5',
    '--config.data.prepared=' + str(tmp_path / 'prepared'),
  )
  code, out, err = commands.answer(
    'evaluate', f'--checkpoint={place}', '--config.model.sentence_weight=1.0'
  )
  assert code == 2
  assert (
    'config.model.sentence_weight is 1.0, which needs the vector of a whole'
  ) in err
  assert 'Traceback' not in out + err


def test_an_index_refuses_it_and_says_what_to_do():
  model = models.make('dreamprvr', sentence_weight=1.0)
  retriever = types.SimpleNamespace(model=model, checkpoint='RUN')
  with pytest.raises(UserError, match='sentence_weight=0') as found:
    Retriever.require_tokens_alone(retriever)
  assert "scores with the sentence's best frame" in str(found.value)
