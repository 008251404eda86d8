"""A comparison as Markdown, LaTeX and CSV."""

import csv
import io

import pytest

from dreamprvr_jax.report import comparison


def row(method, mean, std, **more):
  metrics = {
    name: {'mean': mean, 'std': std, 'values': [mean]}
    for name in comparison.METRICS
  }
  return {
    'method': method,
    'seeds': [0, 1],
    'metrics': metrics,
    'parameters': 1234567,
    'seconds_per_step': 0.25,
    'devices': ['1 x cpu'],
    'published': None,
    **more,
  }


@pytest.fixture
def table():
  published = dict.fromkeys(comparison.METRICS, 1.5)
  return {
    'title': 'configs/x.py',
    'tasks': ['Split test.'],
    'rows': [
      row('gmmformer_v2', 8.04, 0.26, published=published),
      row('a_b+c=0', 9.0, None, seconds_per_step=None),
    ],
    'chance': dict.fromkeys(comparison.METRICS, 0.1),
    'unfinished': ['x, seed 1'],
    'differences': {
      'neighbours': [
        {'method': 'A', 'other': 'B', 'SumR': 3.0, 'standard_error': 1.4},
        {'method': 'B', 'other': 'C', 'SumR': 3.0, 'standard_error': 1.5},
        {'method': 'C', 'other': 'D', 'SumR': 3.0, 'standard_error': None},
      ]
    },
  }


def test_markdown(table):
  page = comparison.markdown(table)
  assert '| chance |  | 0.1 | 0.1 | 0.1 | 0.1 | 0.1 |  |  |  |' in page
  cells = ' | '.join(['8.0 ± 0.3'] * 5)
  assert f'| gmmformer_v2 | 2 | {cells} | 1.5 | 1,234,567 | 0.25 |' in page
  assert '| a_b+c=0 | 2 | 9.0 |' in page
  assert 'Not finished yet: x, seed 1.' in page
  assert '[1] published for the full-size model on the real features' in page
  assert 'the steps that compile are left out. On 1 x cpu.' in page
  widths = {line.count('|') for line in page.splitlines() if line[:1] == '|'}
  assert len(widths) == 1


def test_without_published_numbers_there_is_no_column(table):
  table['rows'][0]['published'] = None
  for text in (comparison.markdown(table), comparison.latex(table)):
    assert 'published' not in text
    assert 'compile' in text


def test_sentences(table):
  more, fewer, unknown = comparison.sentences(table)
  assert 'more than twice' in more
  assert 'not more' not in more
  assert 'not more than twice' in fewer
  assert 'no known spread' in unknown


def test_latex(table):
  text = comparison.latex(table)
  assert r'gmmformer\_v2 & 2 & 8.0 $\pm$ 0.3' in text
  rows = [line for line in text.splitlines() if line.endswith(r'\\')]
  assert {line.count(' & ') for line in rows} == {9}
  assert r'\begin{tabular}{lrrrrrrrrr}' in text


def test_csv(table):
  rows = list(csv.DictReader(io.StringIO(comparison.comma_separated(table))))
  assert [r['method'] for r in rows] == ['gmmformer_v2', 'a_b+c=0', 'chance']
  assert rows[0]['SumR mean'] == '8.04'
  assert rows[1]['SumR std'] == ''
  assert rows[0]['published SumR'] == '1.5'
  assert None not in rows[2]
  assert None not in rows[2].values()
