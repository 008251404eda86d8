"""Tests of the triplet losses and of the draws of their negatives."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamprvr_jax.losses import ranking
from dreamprvr_jax.losses.reduction import masked_mean

SCORES = np.asarray([[0.5, 0.4], [0.1, 0.6], [0.45, 0.3]], np.float32)
OWNER = np.asarray([0, 1, 1])
DRAWS = 4000
triplet = jax.jit(ranking.triplet)
draw_negative_ranks = jax.jit(
  ranking.draw_negative_ranks, static_argnames='hard_pool'
)


def where(owner, captions, videos, real_videos=None):
  real_videos = videos if real_videos is None else real_videos
  return {
    'caption_video': np.asarray(owner),
    'caption_mask': np.arange(len(owner)) < captions,
    'video_mask': np.arange(videos) < real_videos,
  }


@jax.jit
def total(scores, groups, t2v_rank, v2t_rank):
  per_caption, per_video = triplet(
    scores, margin=0.2, t2v_rank=t2v_rank, v2t_rank=v2t_rank, **groups
  )
  return masked_mean(per_caption, groups['caption_mask']) + masked_mean(
    per_video, groups['video_mask']
  )


total_and_gradient = jax.jit(jax.value_and_grad(total))


def hardest(captions, videos):
  return np.ones(captions, int), np.zeros(videos, int)


def test_hard_value():
  value = total(SCORES, where(OWNER, 3, 2), *hardest(3, 2))
  np.testing.assert_allclose(value, 0.30, rtol=1e-6)


def test_per_item_by_hand():
  per_caption, per_video = triplet(
    SCORES,
    margin=0.2,
    t2v_rank=np.ones(3, int),
    v2t_rank=np.asarray([1, 0]),
    **where(OWNER, 3, 2),
  )
  np.testing.assert_allclose(per_caption, [0.1, 0, 0.35], atol=1e-6)
  # Video 0 takes its second hardest caption: .2 + .1 - .5 is negative.
  np.testing.assert_allclose(per_video, [0, 0.15], atol=1e-6)


def test_gradient_flows_through_the_chosen_entries_only():
  _, gradient = total_and_gradient(SCORES, where(OWNER, 3, 2), *hardest(3, 2))
  third, half, quarter = 1 / 3, 1 / 2, 1 / 4
  expected = [
    [-third - half, third + half],
    [0, -quarter],
    [third + half, -third - quarter],
  ]
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize(('rank', 'column'), [(1, 3), (2, 0), (3, 2)])
def test_ranks_count_videos_from_the_hardest(rank, column):
  # The positive has rank 0 although its score is not the highest.
  scores = np.float32([[0.7, 0.5, 0.3, 0.9]])
  per_caption, _ = triplet(
    scores,
    margin=1.0,
    t2v_rank=np.asarray([rank]),
    v2t_rank=np.zeros(4, int),
    **where([1], 1, 4),
  )
  np.testing.assert_allclose(
    np.asarray(per_caption)[0], 1 + scores[0, column] - 0.5, rtol=1e-6
  )


def test_a_batch_of_one_video():
  groups = where([0, 0], 2, 1)
  draw = draw_negative_ranks(
    jax.random.key(0), hard=False, hard_pool=20, **groups
  )
  value, gradient = total_and_gradient(
    np.float32([[0.1], [0.9]]), groups, *draw
  )
  assert value == 0
  np.testing.assert_array_equal(gradient, 0)


def test_nothing():
  groups = where(OWNER, 0, 2, 0)
  value, gradient = total_and_gradient(SCORES, groups, *hardest(3, 2))
  assert value == 0
  np.testing.assert_array_equal(gradient, 0)


def test_order_of_the_batch():
  order = [2, 0, 1]
  value = total(SCORES[order][:, ::-1], where([0, 1, 0], 3, 2), *hardest(3, 2))
  np.testing.assert_allclose(value, 0.30, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
  garbage=st.lists(st.floats(-1, 1, width=32), min_size=20, max_size=20),
  owner=st.lists(st.integers(0, 3), min_size=2, max_size=2),
)
def test_padding_changes_nothing(garbage, owner):
  padded = np.asarray(garbage, np.float32).reshape(5, 4)
  padded[:3, :2] = SCORES
  groups = where([*OWNER, *owner], 3, 4, 2)
  value, gradient = total_and_gradient(padded, groups, *hardest(5, 4))
  np.testing.assert_allclose(value, 0.30, rtol=1e-5)
  np.testing.assert_array_equal(np.asarray(gradient)[3:], 0)
  np.testing.assert_array_equal(np.asarray(gradient)[:, 2:], 0)


GROUPS = where([0, 0, 1, 2, 3, 0, 1], 5, 6, 4)


@functools.cache
def many_draws(hard, hard_pool=2):
  return jax.jit(
    jax.vmap(
      lambda key: draw_negative_ranks(
        key, hard=hard, hard_pool=hard_pool, **GROUPS
      )
    )
  )(jax.random.split(jax.random.key(0), DRAWS))


def assert_uniform(values, low, high):
  """Checks that low..high all occur, equally often within 5 sigma."""
  values = np.asarray(values).ravel()
  assert values.min() == low
  assert values.max() == high
  share = 1 / (high - low + 1)
  deviation = np.sqrt(share * (1 - share) / values.size)
  for value in range(low, high + 1):
    assert abs(np.mean(values == value) - share) < 5 * deviation


def test_soft_draws_are_uniform_over_real_items():
  t2v, v2t = jax.device_get(many_draws(hard=False))
  # Four real videos; five real captions, two of them of video 0.
  assert_uniform(t2v[:, :5], 1, 3)
  assert_uniform(v2t[:, 0], 0, 2)
  assert_uniform(v2t[:, 1:4], 0, 3)


def test_hard_draws():
  t2v, v2t = jax.device_get(many_draws(hard=True))
  assert_uniform(t2v[:, :5], 1, 2)
  np.testing.assert_array_equal(v2t, 0)
  # A pool larger than the batch is cut to the batch.
  t2v, _ = jax.device_get(many_draws(hard=True, hard_pool=20))
  assert_uniform(t2v[:, :5], 1, 3)


def test_draws_are_independent():
  t2v, _ = (np.asarray(x) for x in many_draws(hard=False))
  a, b = (x - x.mean() for x in (t2v[:, 0], t2v[:, 1]))
  assert abs(np.mean(a * b)) < 5 * np.std(a) * np.std(b) / np.sqrt(DRAWS)


def test_hard_may_be_traced():
  draw = jax.jit(
    lambda hard: draw_negative_ranks(
      jax.random.key(0), hard=hard, hard_pool=1, **GROUPS
    )
  )
  np.testing.assert_array_equal(np.asarray(draw(True)[0])[:5], 1)
  assert np.asarray(draw(False)[1]).any()


def test_soft_negatives_are_uniform_over_the_items_of_others():
  # All scores differ, so that the loss shows which one was chosen.
  scores = np.linspace(-0.8, 0.9, 42).astype(np.float32)
  scores = np.random.default_rng(0).permutation(scores).reshape(7, 6)
  t2v, v2t = many_draws(hard=False)
  per_caption, per_video = jax.jit(
    jax.vmap(
      lambda t, v: triplet(scores, margin=5.0, t2v_rank=t, v2t_rank=v, **GROUPS)
    )
  )(t2v, v2t)
  owner = np.asarray(GROUPS['caption_video'])
  chosen = np.asarray(per_caption[:, 2]) - 5 + scores[2, 1]
  column = np.abs(chosen[:, None] - scores[2]).argmin(axis=1)
  assert set(column) == {0, 2, 3}
  assert_uniform(np.asarray([0, 9, 1, 2])[column], 0, 2)
  own = scores[:5][owner[:5] == 0, 0].mean()
  chosen = np.asarray(per_video[:, 0]) - 5 + own
  row = np.abs(chosen[:, None] - scores[:, 0]).argmin(axis=1)
  assert_uniform(row, 2, 4)
