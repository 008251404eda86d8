"""Copies of a video among the hits of a query."""

import numpy as np
import pytest

from dreamprvr_jax.archive.search.duplicates import (
  TIMES,
  Look,
  are_copies,
  distance,
  folded,
  typical,
)

WIDTH = 64


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def film(seed, *, tokens=TIMES, noise=0.0, cut=0, still=0.0):
  """Returns tokens that change slowly, as those of a video do."""
  rng = np.random.default_rng(seed)
  base = rng.standard_normal(WIDTH)
  steps = still * rng.standard_normal((tokens, WIDTH)).cumsum(axis=0)
  more = np.random.default_rng([seed, cut]).standard_normal((tokens, WIDTH))
  return unit(base + steps + noise * more)


def look(tokens, seconds=60.0, content=''):
  return Look.of(tokens, seconds, content)


ARCHIVE = [look(film(seed, still=0.3)) for seed in range(8)]
SCALE = typical(ARCHIVE)


def test_the_scale_is_that_of_unlike_videos():
  assert 1.5 < SCALE < 2.5
  assert typical([]) == typical(ARCHIVE[:1]) == 1.0
  assert distance(ARCHIVE[0], ARCHIVE[0]) == 0


def test_the_order_counts():
  tokens = film(1, still=0.3)
  later = look(np.roll(tokens, 5, axis=0))
  assert distance(look(tokens), later) > 0.1
  assert later.change == pytest.approx(look(tokens).change)


@pytest.mark.parametrize('seconds', [60.0, 60.9, np.nan])
def test_content_that_was_encoded_again_is_a_copy(seconds):
  first = look(film(3, still=0.3), seconds if np.isnan(seconds) else 60.0)
  again = look(film(3, still=0.3, noise=0.3, cut=1), seconds)
  assert are_copies(first, again, SCALE)


def test_other_lengths_and_other_content_are_no_copies():
  first = look(film(3, still=0.3))
  again = film(3, still=0.3, noise=0.3, cut=1)
  assert not are_copies(first, look(again, 62.0), SCALE)
  assert not are_copies(first, look(again, np.nan), SCALE)
  assert not are_copies(first, look(film(4, still=0.3)), SCALE)


def test_shots_of_one_camera_are_no_copies():
  # They hardly change, and differ from each other as much as from themselves.
  one, other = (look(film(5, noise=0.2, cut=i)) for i in (1, 2))
  assert distance(one, other) < 0.1 * SCALE
  assert not are_copies(one, other, SCALE)
  # A slide show that was encoded again differs less than that.
  one, other = (look(film(5, noise=0.05, cut=i)) for i in (1, 2))
  assert are_copies(one, other, SCALE)


def test_identical_files_are_copies_whatever_is_known():
  one, other = look(film(1), 5.0, 'x'), look(film(2), 9.0, 'x')
  assert are_copies(one, other, SCALE)
  assert not are_copies(look(film(1)), look(film(2)), SCALE)


def test_hits_fold_into_the_first_of_their_group():
  looks = [look(film(seed, still=0.3)) for seed in (0, 1, 0, 2, 1, 0)]
  groups = folded(looks, lambda: SCALE)
  assert groups == [[0, 2, 5], [1, 4], [3]]
  assert folded([], lambda: SCALE) == []
