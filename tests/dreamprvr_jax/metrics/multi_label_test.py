"""Metrics with several right videos: values computed by hand."""

import numpy as np
import pytest

from dreamprvr_jax.metrics import multi_label, retrieval

SCORES = np.asarray(
  [
    [0.9, 0.8, 0.1, 0.3, 0.2, 0.7],
    [0.2, 0.9, 0.4, 0.8, 0.1, 0.3],
    [0.5, 0.4, 0.3, 0.2, 0.1, 0.6],
  ]
)
RIGHT = [np.asarray(columns) for columns in ([0], [2, 3, 4], [1, 5])]


def test_specified_values():
  ranks = multi_label.ranks_of(SCORES, RIGHT)
  found = multi_label.summary(ranks, cutoffs=(1, 2, 3, 5, 10))
  recalls = lambda kind: [found[kind][f'R@{k}'] for k in (1, 2, 3, 5, 10)]
  assert recalls('coverage') == pytest.approx(
    [50.0, 61.1111, 88.8889, 88.8889, 100.0], abs=1e-4
  )
  assert recalls('hit') == pytest.approx([200 / 3, 100, 100, 100, 100])
  assert recalls('ceiling') == pytest.approx(
    [61.1111, 88.8889, 100, 100, 100], abs=1e-4
  )
  assert [mine[0] for mine in ranks] == [1, 2, 1]
  assert found['MedR'] == 1
  assert found['MeanR'] == pytest.approx(4 / 3)
  assert found['mAP'] == pytest.approx(79.6296, abs=1e-4)
  assert (found['queries'], found['positives']) == (3, 6)


def test_average_precision_of_each_query():
  for right, row, wanted in zip(
    RIGHT, SCORES, (100, 55.5556, 83.3333), strict=True
  ):
    ranks = multi_label.ranks_of(row[None], [right])
    assert multi_label.summary(ranks)['mAP'] == pytest.approx(wanted, abs=1e-4)


def test_one_right_video_gives_the_usual_metrics_exactly():
  generator = np.random.default_rng(0)
  # There are few values, so that many scores tie.
  scores = generator.integers(0, 30, (200, 150)).astype(np.float32)
  own = generator.integers(0, 150, 200)
  mine = scores[np.arange(200), own][:, None]
  ahead = (scores > mine) | ((scores == mine) & (np.arange(150) < own[:, None]))
  usual = retrieval.summary(1 + ahead.sum(axis=1))
  found = multi_label.summary(multi_label.ranks_of(scores, list(own[:, None])))
  ours = {**found['coverage'], **found}
  assert {name: ours[name] for name in usual} == usual
  assert found['hit'] == {k: v for k, v in usual.items() if k in found['hit']}
  assert set(found['ceiling'].values()) == {100.0}


def test_ties_go_to_the_lower_column_and_nan_counts_against():
  scores = np.asarray([[1.0, 1.0, np.nan, 1.0]])
  (ranks,) = multi_label.ranks_of(scores, [np.asarray([1, 3])])
  assert ranks.tolist() == [3, 4]
  (ranks,) = multi_label.ranks_of(scores, [np.asarray([2])])
  assert ranks[0] == 5


def test_sum_is_of_coverage():
  found = multi_label.summary([np.asarray([1, 200])])
  assert found['coverage']['SumR'] == 200.0
  assert found['ceiling']['R@1'] == 50.0
