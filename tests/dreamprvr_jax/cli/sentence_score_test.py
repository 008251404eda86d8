"""Commands with config.model.sentence_weight, where it cannot work."""

import types

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
  data.check_sentences(config, corpus)
  assert not caplog.text
  config.model.sentence_weight = 1.0
  data.check_sentences(config, corpus)
  report = f'captions with config.data.max_words={longest} rows: {count}. One'
  assert (report in caplog.text) == bool(count)


def test_an_index_refuses_it_and_says_what_to_do():
  model = models.make('dreamprvr', sentence_weight=1.0)
  retriever = types.SimpleNamespace(model=model, checkpoint='RUN')
  with pytest.raises(UserError, match='sentence_weight=0') as found:
    Retriever.require_tokens_alone(retriever)
  assert "scores with the sentence's best frame" in str(found.value)
