"""Re-ranking from the command line, on an untrained retriever."""

import csv
import json

import numpy as np
import pytest

from dreamprvr_jax.cli import rerank_table
from tests.helpers import runs
from tests.helpers.commands import call, untrained

SETTINGS = (
  '--config.rerank.candidates=12',
  '--config.rerank.batch_size=16',
  '--config.rerank.epochs=2',
  '--config.rerank.lr=1e-3',
  '--config.rerank.num_steps=12',
  '--config.rerank.sampling_steps=3',
  '--config.rerank.feature_scale=4.0',
)


@pytest.fixture(scope='module')
def retriever(tmp_path_factory):
  folder = tmp_path_factory.mktemp('retriever')
  return untrained(folder, 'ms_sl', (30, 6, 9))[0]


@pytest.fixture(scope='module')
def reranker(retriever):
  place = retriever.parent / 'reranker'
  code = call(
    '--mode=rerank-train',
    f'--checkpoint={retriever}',
    f'--workdir={place}',
    *SETTINGS,
  )
  assert code == 0
  return place


def test_what_a_training_leaves(reranker, capsys):
  chosen = json.loads((reranker / 'fusion.json').read_text())
  assert chosen['tuned']
  assert chosen['sampling_steps'] in (2, 5, 10)
  assert chosen['held_out']['SumR'] >= chosen['held_out_before']['SumR'] - 20
  rows = runs.rows(reranker, 'eval')
  assert [row['epoch'] for row in rows] == [1, 2]
  assert all(row['split'] == 'held out of train' for row in rows)
  # The second command repeats none of the work.
  code = call(
    '--mode=rerank-train',
    f'--checkpoint={reranker.parent}/checkpoint',
    f'--workdir={reranker}',
    *SETTINGS,
  )
  assert code == 0
  assert len(runs.rows(reranker, 'eval')) == 2
  assert 're-ranked' in capsys.readouterr().out


def test_evaluation(retriever, reranker, capsys, tmp_path):
  code = call(
    '--mode=evaluate',
    f'--checkpoint={retriever}',
    f'--rerank={reranker}',
    f'--workdir={tmp_path}',
    f'--scores={tmp_path}/scores.npz',
  )
  assert code == 0
  out = capsys.readouterr().out
  assert 're-ranking 9 candidates by generator' in out
  assert 'one pass at x = 0' in out
  assert 'SumR over 3 draws of noise' in out
  metrics = json.loads((tmp_path / 'eval_test.json').read_text())
  found = metrics['rerank']
  for name in ('R@1', 'R@5', 'R@10', 'R@100', 'SumR'):
    assert found['before'][name] == pytest.approx(metrics[name])
  # All nine videos are in the lists.
  assert found['ceiling']['R@1'] == 100
  assert found['after']['R@10'] == found['before']['R@10'] == 100
  assert set(found['milliseconds']) == {'1', '64'}
  with np.load(tmp_path / 'scores.npz') as file:
    scores, ids = file['scores'], list(file['videos'])
    right = [ids.index(q.partition('#')[0]) for q in file['queries']]
  own = scores[np.arange(len(right)), right]
  ranks = 1 + (scores > own[:, None]).sum(axis=1)
  assert found['after']['R@1'] == pytest.approx(100 * np.mean(ranks == 1))


@pytest.mark.parametrize('correction', ['qb_norm', 'dual_softmax'])
def test_corrections_are_said(
  correction, retriever, reranker, capsys, tmp_path
):
  code = call(
    '--mode=evaluate',
    f'--checkpoint={retriever}',
    f'--rerank={reranker}',
    f'--workdir={tmp_path}',
    f'--config.rerank.correction={correction}',
  )
  assert code == 0
  assert f'all rows after {correction}, which sees other' in (
    capsys.readouterr().out
  )


def test_table(retriever, capsys, tmp_path):
  flags = (
    '--mode=rerank-table',
    f'--checkpoint={retriever}',
    f'--workdir={tmp_path}',
    '--methods=no_diffusion',
    *SETTINGS,
    '--config.rerank.epochs=1',
  )
  assert call(*flags) == 0
  text = (tmp_path / 'rerank.md').read_text()
  assert text.count('| ms_sl |') == 3
  # A finished table is only printed again.
  (done,) = tmp_path.glob('*/evaluated.json')
  stamp = done.stat().st_mtime_ns
  assert call(*flags) == 0
  assert stamp == done.stat().st_mtime_ns
  assert text in capsys.readouterr().out
  assert call(*flags[:3], '--methods=magic') == 2
  assert 'diffusion, released, no_diffusion' in capsys.readouterr().err


def result(checkpoint, method, seed, before, after):
  recall = lambda total: dict.fromkeys(
    ('R@1', 'R@5', 'R@10', 'R@100', 'SumR'), float(total)
  )
  found = {
    'retriever': 'ms_sl',
    'checkpoint': checkpoint,
    'method': method,
    'seed': seed,
    'parameters': 100,
    'before': recall(before),
    'after': recall(after),
    'ceiling': recall(300),
    'milliseconds': {'1': 2.0, '64': 0.5},
  }
  if method == 'diffusion':
    found['single_pass'] = recall(after + 1)
  return found


RESULTS = [
  result('a', 'diffusion', 0, 100, 102),
  result('a', 'no_diffusion', 0, 100, 99),
  result('b', 'diffusion', 0, 140, 146),
  result('b', 'no_diffusion', 0, 140, 147),
]


def test_sentences_of_a_table():
  assert rerank_table.summary_of(RESULTS) == [
    '- diffusion: SumR +4.00 (standard error 2.00) over 2 runs',
    '- one pass: SumR +5.00 (standard error 2.00) over 2 runs',
    '- no_diffusion: SumR +3.00 (standard error 4.00) over 2 runs',
    '- one pass against diffusion, run by run: +1.00 (standard error 0.00), '
    'more in 2 of 2 runs',
    '- no_diffusion against diffusion, run by run: -1.00 (standard error '
    '2.00), more in 1 of 2 runs',
  ]


def test_rows_of_a_table():
  rows = rerank_table.table_of(RESULTS)
  assert [(r['method'], r['runs']) for r in rows] == [
    ('no re-ranking', 2),
    ('diffusion', 2),
    ('diffusion, one pass', 2),
    ('no_diffusion', 2),
    ('best order of the lists', 2),
  ]
  assert rows[0]['metrics']['SumR']['mean'] == 120
  # Each one is compared with its own retriever, so that the spread of the
  # retrievers does not count.
  assert rows[1]['gain']['mean'] == 4
  assert rows[1]['gain']['std'] == pytest.approx(np.sqrt(8))
  text = rerank_table.markdown(rows)
  assert '| ms_sl | diffusion | 2 |' in text
  assert '| +4.0 ± 2.8 | 100 | 2.00 | 0.50 |' in text
  table = list(csv.reader(rerank_table.comma_separated(rows).splitlines()))
  assert len(table) == 6
  assert len({len(row) for row in table}) == 1


@pytest.mark.parametrize(
  ('flags', 'sentence'),
  [
    (['--config.rerank.network=mlp'], "network is 'mlp'"),
    (['--config.rerank.held_out=0.0'], 'held_out is 0.0; give a share'),
    (['--config.rerank.held_out=0.99'], 'too few to hold'),
    (['--config.rerank.candidates=1'], 'a list needs 2 or more'),
    (['--config.rerank.tokens=words'], "tokens is 'words'"),
  ],
)
def test_bad_settings(flags, sentence, retriever, capsys, tmp_path):
  code = call(
    '--mode=rerank-train',
    f'--checkpoint={retriever}',
    f'--workdir={tmp_path}',
    *flags,
  )
  assert code == 2
  assert sentence in capsys.readouterr().err


def test_what_is_no_reranker(retriever, reranker, capsys, tmp_path):
  evaluate = ('--mode=evaluate', f'--checkpoint={retriever}')
  assert call(*evaluate, f'--rerank={retriever}') == 2
  assert 'has no re-ranker' in capsys.readouterr().err
  assert call(*evaluate, f'--rerank={tmp_path}') == 2
  assert 'config.json' in capsys.readouterr().err
  code = call(
    '--mode=rerank-train',
    f'--checkpoint={retriever}',
    f'--workdir={reranker}',
    *SETTINGS,
    '--config.rerank.candidates=5',
  )
  assert code == 2
  assert 'config.rerank.candidates: 12 there, 5 now' in capsys.readouterr().err


def test_another_retriever_is_refused(retriever, reranker, capsys, tmp_path):
  stored = json.loads((reranker / 'config.json').read_text())
  assert stored['reranker']['retriever_model'] == 'ms_sl'
  stored['reranker']['retriever_digest'] = 'f' * 16
  before = (reranker / 'config.json').read_text()
  (reranker / 'config.json').write_text(json.dumps(stored))
  code = call(
    '--mode=evaluate',
    f'--checkpoint={retriever}',
    f'--rerank={reranker}',
  )
  (reranker / 'config.json').write_text(before)
  assert code == 2
  assert 'weights differ from those of' in capsys.readouterr().err
