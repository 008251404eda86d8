"""The strength of hits, by what a query scores on a sample of the index."""

import numpy as np
import pytest

from dreamprvr_jax.archive.search.calibration import (
  FALSE_ALARMS,
  LEAST,
  ROWS,
  Calibration,
  levels_of,
  sample_of,
  strength_of,
)


@pytest.mark.parametrize('rows', [40, 256, 5000])
@pytest.mark.parametrize('scale', [0.01, 3.0])
def test_false_alarms_are_as_stated_whatever_the_range_and_size(rows, scale):
  # Each query has a range of its own, and nothing fits any of them.
  rng = np.random.default_rng(rows)
  scores = rng.gumbel(size=(600, rows)) * scale
  scores += rng.normal(0, 9 * scale, (600, 1))
  sample = scores[:, sample_of(np.arange(rows))]
  levels = levels_of(sample, rows)
  best = scores.max(axis=1)
  for name, found in zip(
    FALSE_ALARMS, (best[:, None] >= levels).mean(0), strict=True
  ):
    assert found == pytest.approx(FALSE_ALARMS[name], rel=0.5), name


def test_what_stands_out_is_strong():
  rng = np.random.default_rng(0)
  sample = rng.gumbel(size=(1, 200))
  (levels,) = levels_of(sample, 200)
  assert levels[0] < levels[1]
  assert strength_of(sample.max() + 10, levels) == 'strong'
  assert strength_of(levels.mean(), levels) == 'weak'
  assert strength_of(np.median(sample), levels) == 'none'
  # A right answer in the sample hardly changes what is weak.
  sample[0, 7] = 50
  assert levels_of(sample, 200)[0] == pytest.approx(levels, abs=0.5)


def test_more_rows_need_a_higher_score():
  sample = np.random.default_rng(0).gumbel(size=(1, 200))
  assert (levels_of(sample, 9000) > levels_of(sample, 200)).all()


def test_a_small_index_gives_no_verdict():
  scores = lambda queries: np.zeros((len(queries), LEAST - 1))
  queries = np.zeros((2, 4))
  assert Calibration(scores, LEAST - 1).levels(queries, LEAST - 1) is None


def test_the_sample_is_fixed():
  rows = np.arange(3 * ROWS)
  found = sample_of(rows)
  np.testing.assert_array_equal(found, sample_of(rows))
  assert len(np.unique(found)) == ROWS
  np.testing.assert_array_equal(sample_of(rows[:5]), rows[:5])
