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


@pytest.mark.parametrize('rows', [40, 400])
def test_false_alarms_are_at_most_as_stated(rows):
  # A row's score is the best of its tokens, and none fits the queries.
  rng = np.random.default_rng(rows)
  scores = rng.standard_normal((500, 16, rows)).max(axis=1)
  levels = levels_of(scores[:, sample_of(np.arange(rows))], rows)
  found = (scores.max(axis=1)[:, None] >= levels).mean(axis=0)
  assert (found <= list(FALSE_ALARMS.values())).all()
  assert found[0] > 0.02


def test_the_range_of_a_query_does_not_matter():
  sample = np.random.default_rng(0).gumbel(size=(3, 90))
  levels = levels_of(sample, 90)
  np.testing.assert_allclose(
    levels_of(0.01 * sample + 7, 90), 0.01 * levels + 7
  )


def test_what_stands_out_is_strong():
  rng = np.random.default_rng(0)
  sample = rng.gumbel(size=(1, 200))
  (levels,) = levels_of(sample, 200)
  assert levels[0] < levels[1]
  assert strength_of(sample.max() + 10, levels) == 'strong'
  assert strength_of(levels.mean(), levels) == 'weak'
  assert strength_of(np.median(sample), levels) == 'none'
  # A right answer in the sample hardly changes what is weak, nor do its copies.
  sample[0, 7] = 50
  assert levels_of(sample, 200)[0] == pytest.approx(levels, abs=0.5)
  sample = np.append(sample, [[50.0] * 9], axis=1)
  assert levels_of(sample, 200, [9])[0] == pytest.approx(levels, abs=0.5)
  assert levels_of(sample, 200)[0][0] > levels[0] + 3


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
