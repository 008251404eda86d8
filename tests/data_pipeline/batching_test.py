"""Tests of the order of items in batches."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import batching
from data_pipeline.errors import DataError

_COUNTS = st.lists(st.integers(1, 30), min_size=1, max_size=60)


def _plan(counts, batch_size, seed=0, multiple=4):
  # Captions of a video are scattered over the file.
  owner = np.repeat(np.arange(len(counts)), counts)
  owner = owner[np.random.default_rng(0).permutation(len(owner))]
  return owner, batching.TrainPlan(
    owner.astype(np.int32),
    len(counts),
    batch_size=batch_size,
    seed=seed,
    multiple=multiple,
  )


@given(_COUNTS, st.integers(1, 70), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_slots_hold_every_batch(counts, batch_size, multiple):
  slots = batching.caption_slots(counts, batch_size, multiple)
  largest = sum(sorted(counts)[-batch_size:])
  assert all(size % multiple == 0 for size in slots)
  assert all(a < b for a, b in itertools.pairwise(slots))
  assert largest <= slots[-1] < largest + multiple
  assert len(slots) <= 10


def test_slots_of_a_constant_count_are_one_size():
  assert batching.caption_slots([5] * 1000, 128, 16) == [640]


def test_slots_cover_nearly_all_batches_with_the_first():
  counts = np.random.default_rng(0).integers(1, 8, 5000)
  slots = batching.caption_slots(counts, 128, 16)
  mean = 128 * counts.mean()
  assert mean < slots[0] < 1.25 * mean
  assert slots[1] <= 1.5 * slots[0] + 16


@given(_COUNTS, st.integers(1, 70), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_an_epoch_shows_every_caption_once(counts, batch_size, seed):
  owner, plan = _plan(counts, batch_size, seed)
  assert plan.steps_per_epoch == -(-len(counts) // batch_size)
  videos, captions = [], []
  for number in range(plan.steps_per_epoch):
    batch = plan.batch(number)
    real = batch.videos >= 0
    slots = batch.captions >= 0
    assert batch.videos.shape == (batch_size,)
    assert batch.captions.shape == batch.caption_video.shape
    assert len(batch.captions) in plan.slots
    assert len(batch.captions) == plan.slots_of(number)
    # Real rows come first, padding slots hold 0.
    assert np.all(np.diff(real.astype(int)) <= 0)
    assert np.all(np.diff(slots.astype(int)) <= 0)
    assert not batch.caption_video[~slots].any()
    assert np.all(np.diff(batch.caption_video[slots]) >= 0)
    np.testing.assert_array_equal(
      batch.videos[batch.caption_video[slots]], owner[batch.captions[slots]]
    )
    for video in batch.videos[real]:
      mine = batch.captions[slots][owner[batch.captions[slots]] == video]
      assert np.all(np.diff(mine) > 0)
    videos += list(batch.videos[real])
    captions += list(batch.captions[slots])
  assert sorted(videos) == list(range(len(counts)))
  assert sorted(captions) == list(range(len(owner)))


def test_batches_are_functions_of_seed_and_number():
  _, plan = _plan([1, 2, 3] * 10, 7, seed=3)
  _, twin = _plan([1, 2, 3] * 10, 7, seed=3)
  _, other = _plan([1, 2, 3] * 10, 7, seed=4)
  far = 1000 * plan.steps_per_epoch + 2
  np.testing.assert_array_equal(plan.batch(far).videos, twin.batch(far).videos)
  orders = {
    tuple(plan.batch(n * plan.steps_per_epoch).videos) for n in range(9)
  }
  assert len(orders) == 9
  assert tuple(other.batch(0).videos) not in orders


def test_the_order_is_frozen():
  # These orders are stored: a checkpoint must always resume in the same order.
  assert batching.epoch_order(8, 0, 0).tolist() == [2, 4, 3, 6, 5, 1, 7, 0]
  assert batching.epoch_order(8, 7, 3).tolist() == [6, 0, 1, 4, 2, 7, 3, 5]


def test_the_order_takes_any_seed():
  orders = [
    batching.epoch_order(40, seed, 0).tolist()
    for seed in (0, 1, -1, 2**32, 2**32 + 1, 2**63)
  ]
  assert all(sorted(order) == list(range(40)) for order in orders)
  assert len(set(map(tuple, orders))) == len(orders)


@pytest.mark.parametrize('over', ['epochs', 'seeds'])
def test_the_order_is_uniform(over):
  # The counts of an item's place, of two neighbours, and of the first items of
  # two consecutive orders follow chi-square laws.
  items, count = 12, 6000
  orders = np.stack(
    [
      batching.epoch_order(items, *((7, k) if over == 'epochs' else (k, 7)))
      for k in range(count)
    ]
  )
  places = np.stack([np.bincount(c, minlength=items) for c in orders.T])
  pairs = np.zeros((items, items))
  np.add.at(pairs, (orders[:, :-1].ravel(), orders[:, 1:].ravel()), 1)
  pairs = pairs[~np.eye(items, dtype=bool)]
  firsts = np.zeros((items, items))
  np.add.at(firsts, (orders[:-1, 0], orders[1:, 0]), 1)
  for found, freedom in (
    (places, (items - 1) ** 2),
    (pairs, len(pairs) - 1),
    (firsts, items**2 - 1),
  ):
    statistic = np.sum((found - found.mean()) ** 2) / found.mean()
    # The bound is five standard deviations, on both sides: too even would be
    # wrong, too.
    assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)


@given(st.integers(1, 6), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_processes_divide_an_axis(count, rows):
  axis = np.arange(count * rows)
  parts = [
    axis[batching.process_rows(len(axis), p, count, 'x')] for p in range(count)
  ]
  np.testing.assert_array_equal(np.concatenate(parts), axis)
  assert {len(part) for part in parts} == {rows}


def test_bad_numbers_are_refused():
  with pytest.raises(DataError, match='x of 7 cannot be divided among 2'):
    batching.process_rows(7, 0, 2, 'x')
  with pytest.raises(DataError, match='process 2 of 2'):
    batching.process_rows(8, 2, 2, 'x')
  with pytest.raises(DataError, match='at least one video'):
    batching.caption_slots([], 4)
  with pytest.raises(DataError, match='batch_size=0'):
    batching.steps_per_epoch(4, 0)


def test_padded_range():
  assert list(batching.padded_range(0, 3, 4)) == [0, 1, 2]
  assert list(batching.padded_range(1, 3, 4)) == [3, -1, -1]
