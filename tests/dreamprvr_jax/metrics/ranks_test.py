"""Tests of ranks, against sorting in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.metrics.ranks import rank_of_best_sibling, rank_of_target


@pytest.mark.parametrize(
  ('target', 'expected'), [(0, 2), (1, 1), (2, 3), (3, 5), (4, 4)]
)
def test_ties_go_to_the_lower_index(target, expected):
  scores = jnp.asarray([[0.5, 0.9, 0.5, 0.1, 0.3]])
  rank = rank_of_target(scores, jnp.asarray([target]), jnp.ones(5, bool))
  np.testing.assert_array_equal(rank, [expected])


def test_equals_a_stable_sort():
  rng = np.random.default_rng(0)
  scores = rng.integers(0, 6, size=(40, 12)).astype(np.float32)
  target = rng.integers(0, 9, size=40)
  valid = np.arange(12) < 9
  got = jax.jit(rank_of_target)(scores, target, valid)
  order = np.argsort(-scores[:, :9], axis=1, kind='stable')
  expected = [
    list(row).index(t) + 1 for row, t in zip(order, target, strict=True)
  ]
  np.testing.assert_array_equal(got, expected)
  assert got.dtype == jnp.int32


def test_invalid_columns_do_not_count():
  scores = jnp.asarray([[9.0, 1.0, 9.0, 1.0]])
  valid = jnp.asarray([False, True, False, True])
  rank = rank_of_target(scores, jnp.asarray([3]), valid)
  np.testing.assert_array_equal(rank, [2])


def test_all_equal_scores_give_no_free_success():
  rank = rank_of_target(jnp.zeros((3, 3)), jnp.arange(3), jnp.ones(3, bool))
  np.testing.assert_array_equal(rank, [1, 2, 3])


def test_best_sibling_by_hand():
  scores = jnp.asarray(
    [
      # Itself scores highest and is left out; siblings 1 and 3.
      [1.0, 0.4, 0.8, 0.6, 0.9, 0.0],
      [0.9, 1.0, 0.8, 0.1, 0.2, 9.0],
      [0.5, 0.5, 1.0, 0.5, 0.5, 9.0],
      [0.2, 0.3, 0.4, 1.0, 0.1, 0.0],
    ]
  )
  groups = jnp.asarray([0, 0, 1, 0, 2, 1])
  valid = jnp.asarray([True, True, True, True, True, False])
  ranks = rank_of_best_sibling(scores, jnp.arange(4), groups, valid)
  # Item 2's only sibling is not real: there is none, hence 0.
  np.testing.assert_array_equal(ranks, [3, 1, 0, 2])


def test_best_sibling_ties_go_to_the_lower_index():
  scores = jnp.full((3, 3), 0.5)
  groups, valid = jnp.asarray([0, 1, 0]), jnp.ones(3, bool)
  ranks = rank_of_best_sibling(scores, jnp.arange(3), groups, valid)
  # For item 0 the stranger comes before the sibling, for item 2 after it.
  np.testing.assert_array_equal(ranks, [2, 0, 1])


def test_best_sibling_equals_a_loop():
  rng = np.random.default_rng(1)
  scores = rng.integers(0, 9, size=(10, 10)).astype(np.float32)
  groups = rng.integers(0, 4, size=10)
  expected = []
  for i in range(10):
    others = [j for j in range(10) if j != i]
    others.sort(key=lambda j, i=i: (-scores[i, j], j))
    own = [groups[j] == groups[i] for j in others]
    # Nothing but strangers stands before the first sibling.
    rank = own.index(True) + 1 if any(own) else 0
    expected.append(rank)
  got = rank_of_best_sibling(
    scores, np.arange(10), jnp.asarray(groups), np.ones(10, bool)
  )
  np.testing.assert_array_equal(got, expected)
