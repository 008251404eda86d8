"""Lists of candidates."""

import numpy as np

from dreamprvr_jax.rerank.candidates import best_candidates, training_lists

SCORES = np.asarray(
  [[0.1, 0.9, 0.5, 0.9], [0.3, 0.2, 0.1, 0.0], [0.4, 0.4, 0.4, 0.4]],
  np.float32,
)
RIGHT = np.asarray([3, 2, 1])


def test_best_first_and_the_lower_index_of_equals():
  found = best_candidates(SCORES, RIGHT, 2)
  np.testing.assert_array_equal(found.videos, [[1, 3], [0, 1], [0, 1]])
  np.testing.assert_allclose(found.scores[0], [0.9, 0.9])
  np.testing.assert_array_equal(found.ranks, [2, 3, 2])
  np.testing.assert_array_equal(found.contain_right, [True, False, True])


def test_no_more_candidates_than_videos():
  assert best_candidates(SCORES, RIGHT, 9).videos.shape == (3, 4)
  assert training_lists(SCORES, RIGHT, 9).shape == (3, 4)


def test_training_lists():
  found = training_lists(SCORES, RIGHT, 3)
  np.testing.assert_array_equal(found, [[3, 1, 2], [2, 0, 1], [1, 0, 2]])
  # The scores themselves are unchanged.
  assert SCORES[0, 3] == np.float32(0.9)


def test_many_rows():
  scores = np.random.default_rng(0).normal(size=(2500, 7)).astype(np.float32)
  right = np.arange(2500) % 7
  found = best_candidates(scores, right, 4)
  order = np.argsort(-scores, axis=1)
  np.testing.assert_array_equal(found.videos, order[:, :4])
  ranks = np.argmax(order == right[:, None], axis=1) + 1
  np.testing.assert_array_equal(found.ranks, ranks)
