"""Tests of the retrieval metrics."""

import numpy as np
import pytest

from dreamprvr_jax.metrics import retrieval

RANKS = np.asarray([1, 2, 5, 6, 10, 11, 100, 101])


def test_recall_counts_the_cutoff_itself():
  assert retrieval.recall(RANKS) == {
    'R@1': 12.5,
    'R@5': 37.5,
    'R@10': 62.5,
    'R@100': 87.5,
    'SumR': 200.0,
  }


def test_sum_is_of_unrounded_values():
  ranks = np.asarray([1, 7, 200])
  third = 100 / 3
  assert retrieval.recall(ranks)['SumR'] == pytest.approx(6 * third)


def test_summary():
  values = retrieval.summary(np.asarray([1, 2, 4, 10]))
  assert values['MedR'] == 3
  assert values['MeanR'] == 4.25
  assert values['mAP'] == pytest.approx(25 * (1 + 0.5 + 0.25 + 0.1))
  assert values['R@5'] == 75


def test_summary_of_no_query():
  values = retrieval.summary(np.zeros(0, int))
  assert list(values) == list(retrieval.summary(RANKS))
  assert np.isnan(list(values.values())).all()


def test_moment_ratio_bins_include_their_upper_bound():
  ranks = np.asarray([1, 2, 3, 20, 1, 50])
  ratios = np.asarray([0.2, 0.4, 0.41, 1.0, 1.3, np.nan])
  bins = retrieval.by_moment_ratio(ranks, ratios)
  assert list(bins) == ['(0, 0.2]', '(0.2, 0.4]', '(0.4, 1]']
  assert [values['queries'] for values in bins.values()] == [1, 1, 3]
  assert bins['(0, 0.2]']['R@1'] == 100
  assert bins['(0.2, 0.4]']['R@1'] == 0
  assert bins['(0.4, 1]']['R@1'] == pytest.approx(100 / 3)
  assert bins['(0.4, 1]']['MedR'] == 3


def test_an_empty_bin_has_a_count_only():
  bins = retrieval.by_moment_ratio(np.asarray([1]), np.asarray([0.1]))
  assert bins['(0.4, 1]'] == {'queries': 0}


def test_unknown_ratios():
  assert retrieval.by_moment_ratio(RANKS, np.full(8, np.nan)) == {}


def test_chance():
  assert retrieval.chance(1000) == pytest.approx(
    {'R@1': 0.1, 'R@5': 0.5, 'R@10': 1.0, 'R@100': 10.0, 'SumR': 11.6}
  )
  assert retrieval.chance(50)['R@100'] == 100


def test_chance_is_the_mean_over_all_ranks():
  values = retrieval.recall(np.arange(1, 51))
  assert retrieval.chance(50) == pytest.approx(values)


def test_table():
  table = retrieval.format_table(
    {
      'val': {'R@1': 8.04, 'R@5': 27.5, 'SumR': 156.06},
      'chance': {'R@1': 0.0},
    },
    columns=('R@1', 'R@5', 'SumR'),
  )
  assert table.split('\n') == [
    '           R@1     R@5    SumR',
    'val        8.0    27.5   156.1',
    'chance     0.0       -       -',
  ]


def test_table_of_the_recalls_by_default():
  header = retrieval.format_table({'val': {}}).split('\n')[0]
  assert header.split() == ['R@1', 'R@5', 'R@10', 'R@100', 'SumR']
