"""Tests of ranks, against sorting in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.metrics.ranks import (
  count_ahead,
  own_score,
  rank_of_best_sibling,
  ranks_of,
)

best_sibling = jax.jit(rank_of_best_sibling)


@jax.jit
def rank_of_target(scores, target, items):
  own = own_score(scores, target, items)
  return 1 + count_ahead(scores, own, target, items)


@pytest.mark.parametrize(
  ('target', 'expected'), [(0, 2), (1, 1), (2, 3), (3, 5), (4, 4)]
)
def test_ties_go_to_the_lower_index(target, expected):
  scores = np.float32([[0.5, 0.9, 0.5, 0.1, 0.3]])
  rank = rank_of_target(scores, np.asarray([target]), np.arange(5))
  np.testing.assert_array_equal(rank, [expected])


def made():
  """Returns scores with many ties, targets, and ranks by a stable sort."""
  rng = np.random.default_rng(0)
  scores = rng.integers(0, 6, size=(40, 9)).astype(np.float32)
  target = rng.integers(0, 9, size=40)
  order = np.argsort(-scores, axis=1, kind='stable')
  return scores, target, 1 + np.argmax(order == target[:, None], axis=1)


def test_equals_a_stable_sort_in_any_order_of_columns():
  scores, target, expected = made()
  # Three of the twelve columns are padding.
  items = np.random.default_rng(1).permutation([*range(9), -1, -1, -1])
  shuffled = np.where(items >= 0, scores[:, items], 9)
  got = rank_of_target(shuffled, target, items)
  np.testing.assert_array_equal(got, expected)
  assert got.dtype == jnp.int32


def test_on_the_host_as_on_the_device():
  scores, target, expected = made()
  np.testing.assert_array_equal(ranks_of(scores, target), expected)
  scores[0], scores[1, 3], scores[2, target[2]] = np.nan, np.nan, np.nan
  got = ranks_of(scores, target)
  np.testing.assert_array_equal(
    got, rank_of_target(scores, target, np.arange(9))
  )
  assert got[0] >= 9
  assert got[2] >= 9
  assert got.dtype == np.int64


def test_columns_in_blocks():
  scores, target, expected = made()
  blocks = np.moveaxis(scores.reshape(40, 3, 3), 1, 0)
  items = np.arange(9).reshape(3, 3)
  own = np.asarray(jax.jit(own_score)(blocks, target, items))
  assert (np.isfinite(own).sum(axis=0) == 1).all()
  ahead = jax.jit(count_ahead)(blocks, own.max(axis=0)[None], target, items)
  ahead = np.asarray(ahead)
  np.testing.assert_array_equal(1 + ahead.sum(axis=0), expected)


def test_a_target_that_is_no_column():
  items = np.asarray([0, -1])
  own = jax.jit(own_score)(np.ones((1, 2)), np.asarray([5]), items)
  np.testing.assert_array_equal(own, [-np.inf])


def test_all_equal_scores_give_no_free_success():
  rank = rank_of_target(np.zeros((3, 3)), np.arange(3), np.arange(3))
  np.testing.assert_array_equal(rank, [1, 2, 3])


def test_scores_that_are_no_numbers_are_no_success():
  rank = rank_of_target(np.full((3, 50), np.nan), np.arange(3), np.arange(50))
  assert (np.asarray(rank) >= 50).all()


def test_best_sibling_by_hand():
  scores = np.float32(
    [
      # Item 0 itself scores highest and is left out; its siblings are 1 and 3.
      [1.0, 0.4, 0.8, 0.6, 0.9, 0.0],
      [0.9, 1.0, 0.8, 0.1, 0.2, 9.0],
      [0.5, 0.5, 1.0, 0.5, 0.5, 9.0],
      [0.2, 0.3, 0.4, 1.0, 0.1, 0.0],
    ]
  )
  # Item 5 is padding.
  groups = np.asarray([0, 0, 1, 0, 2, -1])
  ranks = best_sibling(scores, np.arange(4), groups[:4], np.arange(6), groups)
  # Item 2 has no sibling, so its rank is 0.
  np.testing.assert_array_equal(ranks, [3, 1, 0, 2])


def test_best_sibling_ties_go_to_the_lower_index():
  scores = np.full((3, 3), 0.5, np.float32)
  groups, items = np.asarray([0, 1, 0]), np.arange(3)
  ranks = best_sibling(scores, items, groups, items, groups)
  # For item 0 the stranger comes before the sibling, for item 2 after it.
  np.testing.assert_array_equal(ranks, [2, 0, 1])


@pytest.mark.parametrize('shares', [1, 4])
def test_best_sibling_equals_a_loop(shares):
  rng = np.random.default_rng(1)
  scores = rng.integers(0, 9, size=(12, 12)).astype(np.float32)
  groups = rng.integers(0, 4, size=12)
  expected = []
  for i in range(12):
    others = [j for j in range(12) if j != i]
    others.sort(key=lambda j, i=i: (-scores[i, j], j))
    own = [groups[j] == groups[i] for j in others]
    # Only strangers come before the first sibling.
    rank = own.index(True) + 1 if any(own) else 0
    expected.append(rank)
  whole, column = PartitionSpec(), PartitionSpec('corpus')
  split = jax.shard_map(
    functools.partial(rank_of_best_sibling, axis='corpus'),
    mesh=meshes.make_mesh(shares, shares),
    in_specs=(PartitionSpec(None, 'corpus'), whole, whole, column, column),
    out_specs=whole,
    check_vma=False,
  )
  items = np.arange(12)
  got = jax.jit(split)(scores, items, groups, items, groups)
  np.testing.assert_array_equal(got, expected)
