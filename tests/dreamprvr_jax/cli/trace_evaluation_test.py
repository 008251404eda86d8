"""evaluate --trace: TRACE without training, chosen on val."""

import json

import numpy as np
import pytest

from dreamprvr_jax.metrics import retrieval
from tests.helpers import commands
from tests.helpers.retrieval import ranks_of

VIDEOS = (6, 5, 8)
SMALL = (
  '--config.model.num_registers=2',
  '--config.model.diffusion_steps=2',
  '--config.model.diffusion_layers=1',
  '--config.model.block_widths=(0.0, 1.0)',
)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  folder = tmp_path_factory.mktemp('trace')
  return commands.untrained(folder, 'gmmformer', VIDEOS)[0]


def evaluate(checkpoint, *flags):
  return commands.answer(
    'evaluate',
    f'--checkpoint={checkpoint}',
    '--config.num_devices=1',
    *flags,
  )


def result(checkpoint):
  return json.loads((checkpoint / 'eval_test.json').read_text())['trace']


def test_form_and_weight_are_chosen_on_val(checkpoint, tmp_path):
  plain, traced = tmp_path / 'plain.npz', tmp_path / 'traced.npz'
  assert evaluate(checkpoint, f'--scores={plain}')[0] == 0
  code, out, err = evaluate(
    checkpoint,
    '--trace=temporal-2,global-3',
    '--config.trace.weights=(0.0, 0.5)',
    f'--scores={traced}',
  )
  assert code == 0, err
  found = result(checkpoint)
  best = max(max(row.values()) for row in found['on_val'].values())
  assert found['on_val'][found['form']][f'{found["weight"]:g}'] == best
  assert set(found['on_val']) == {'temporal-2', 'global-3'}
  # Without weight it is the retriever.
  assert found['on_val']['temporal-2']['0'] == found['before_on_val']
  assert found['chosen_on'] == 'val'
  assert set(found['controls']) == {
    'uniform',
    'shuffled',
    'shuffled_frames',
    'best_frame',
  }
  before, after = np.load(plain), np.load(traced)
  videos = list(after['videos'])
  right = [videos.index(name.split('#')[0]) for name in after['queries']]
  for name, scores in (('before', before), ('after', after)):
    ranks = ranks_of(scores['scores'], np.array(right))
    assert found[name]['SumR'] == retrieval.summary(ranks)['SumR']
  assert f'TRACE without training: {found["form"]}, weight' in out
  assert '  best_frame instead' in out


def test_a_control_instead_of_the_method(checkpoint):
  flags = '--trace=temporal-4', '--config.trace.weights=(0.3,)'
  assert evaluate(checkpoint, *flags)[0] == 0
  method = result(checkpoint)
  code, _, err = evaluate(
    checkpoint, *flags, '--config.trace.routing=shuffled_frames'
  )
  assert code == 0, err
  control = result(checkpoint)
  assert control['after'] == method['controls']['shuffled_frames']
  assert control['controls']['query'] == method['after']


@pytest.mark.parametrize(
  ('flags', 'sentence'),
  [
    (('--trace=local-4',), "TRACE has no form 'local-4'; give temporal-N"),
    (
      ('--trace=temporal-4', '--config.trace.routing=random'),
      "routing 'random' is unknown",
    ),
    (
      ('--trace=temporal-4', '--config.trace.temperature=0.01'),
      'temperature is 0.01; give at least 0.05',
    ),
    (
      ('--trace=temporal-4', '--config.trace.weights=(-1.0,)'),
      'config.trace.weights is (-1.0,); give numbers',
    ),
  ],
)
def test_refused(checkpoint, flags, sentence):
  code, _, err = evaluate(checkpoint, *flags)
  assert code == 2
  assert sentence in err
  assert 'Traceback' not in err


def test_a_reranker_besides_is_refused(checkpoint, tmp_path):
  (tmp_path / 'config.json').write_text('{"config": {}}')
  code, _, err = evaluate(
    checkpoint, '--trace=temporal-4', f'--rerank={tmp_path}'
  )
  assert code == 2
  assert '--trace and --rerank exclude each other; give one' in err


@pytest.mark.long
def test_a_checkpoint_with_trace(tmp_path):
  """It is evaluated as it is, and neither indexed nor given a second score."""
  place, _ = commands.untrained(
    tmp_path, 'dreamprvr', VIDEOS, *SMALL, '--config.model.trace=query'
  )
  code, _, err = evaluate(place)
  assert code == 0, err
  code, _, err = evaluate(place, '--trace=temporal-4')
  assert code == 2
  assert 'was trained with TRACE, which its score has already' in err
  index = f'--index={tmp_path}/index'
  code, _, err = commands.answer('index', f'--checkpoint={place}', index)
  assert code == 2
  assert 'scores with TRACE, which reads registers, but a search' in err
  without = tmp_path / 'without'
  code, _, err = commands.answer(
    'export',
    f'--checkpoint={place}',
    f'--out={without}',
    '--config.model.trace_weight=0.0',
  )
  assert code == 0, err
  code, _, err = commands.answer('index', f'--checkpoint={without}', index)
  assert code == 0, err
