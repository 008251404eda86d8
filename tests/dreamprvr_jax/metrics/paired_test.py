"""Differences on the same queries, and their errors."""

import numpy as np
import pytest

from dreamprvr_jax.metrics import paired, seeds
from dreamprvr_jax.metrics.retrieval import RECALLS, recall

VIDEOS = np.repeat(np.arange(60), [1, 2, 3, 4, 5, 6] * 10)


def drawn(seed, best):
  """Returns ranks that are alike for the queries of one video."""
  rng = np.random.default_rng(seed)
  shift = rng.integers(0, 12, VIDEOS.max() + 1)[VIDEOS]
  return best + shift + rng.integers(0, 3, len(VIDEOS))


def test_the_mean_of_the_shares_is_the_recall():
  ranks = np.asarray([1, 2, 5, 6, 10, 11, 100, 101])
  found = dict(zip(RECALLS, paired.shares(ranks).mean(axis=0), strict=True))
  assert found == pytest.approx(recall(ranks))
  assert paired.shares(ranks)[0].tolist() == [100, 100, 100, 100, 400]


def test_means_and_difference_are_those_of_the_runs():
  ours, theirs = [drawn(0, 1), drawn(1, 1)], [drawn(2, 4)]
  found = paired.difference(ours, theirs, VIDEOS, seedless=(False, True))
  for name in RECALLS:
    values = [
      [recall(ranks)[name] for ranks in side] for side in (ours, theirs)
    ]
    assert found[name]['ours'] == pytest.approx(np.mean(values[0]))
    assert found[name]['theirs'] == pytest.approx(np.mean(values[1]))
    change, error = seeds.difference(*values, seedless=(False, True))
    assert found[name]['difference'] == pytest.approx(change)
    assert found[name]['over_runs'] == pytest.approx(error)


def test_error_over_queries_is_that_of_drawing_videos():
  """Against 4,000 draws of 60 videos, which are within some 1 % of it."""
  ours, theirs = drawn(0, 1), drawn(1, 3)
  found = paired.difference([ours], [theirs], VIDEOS)['SumR']
  assert found['over_runs'] is None
  each = (paired.shares(ours) - paired.shares(theirs))[:, -1]
  sums = np.bincount(VIDEOS, each)
  sizes = np.bincount(VIDEOS)
  draws = np.random.default_rng(3).integers(0, 60, (4000, 60))
  means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
  assert found['over_queries'] == pytest.approx(np.std(means), rel=0.06)
  # As if queries were independent, it would be too small.
  assert found['over_queries'] > 1.3 * np.std(each) / np.sqrt(len(each))


def test_equal_sides_and_a_single_video():
  ranks = drawn(0, 1)
  found = paired.difference(
    [ranks, ranks], [ranks], VIDEOS, seedless=(False, True)
  )
  for values in found.values():
    assert values['difference'] == values['over_queries'] == 0
    assert values['over_runs'] == values['half_width'] == 0
  alone = paired.difference([ranks], [ranks], np.zeros_like(VIDEOS))
  assert alone['SumR']['over_queries'] is None
  assert alone['SumR']['half_width'] is None


def varied(rng, runs, spread):
  """Returns ranks of runs that differ by a shift of each run's own."""
  return [
    np.maximum(1, rng.integers(1, 12, len(VIDEOS)) + round(shift))
    for shift in rng.normal(0, spread, runs)
  ]


@pytest.mark.parametrize('runs', [(2, 2), (3, 3)])
def test_chance_is_seldom_beyond_the_interval(runs):
  """Runs of one method against others of it: 5 % of 600 trials are 30, give or
  take 5; the errors are added as if they had nothing in common."""
  rng = np.random.default_rng(7)
  beyond = 0
  for _ in range(600):
    ours, theirs = (varied(rng, count, 2.0) for count in runs)
    found = paired.difference(ours, theirs, VIDEOS)['SumR']
    beyond += abs(found['difference']) > found['half_width']
  assert 5 <= beyond <= 45


def test_runs_of_one_seed_are_not_counted():
  rng = np.random.default_rng(8)
  ours, theirs = varied(rng, 3, 2.0), varied(rng, 1, 2.0)
  found = paired.difference(ours, theirs, VIDEOS)['SumR']
  assert found['over_runs'] is None
  # Student's t with 59 degrees of freedom.
  assert found['half_width'] == pytest.approx(
    2.001 * found['over_queries'], 1e-3
  )
  fixed = paired.difference(ours, theirs, VIDEOS, seedless=(False, True))
  assert fixed['SumR']['half_width'] > found['half_width']
