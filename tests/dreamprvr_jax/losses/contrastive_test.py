"""Tests of the contrastive losses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamprvr_jax.losses import contrastive
from dreamprvr_jax.losses.reduction import masked_mean

# One program each, instead of one for each operation.
nce = jax.jit(contrastive.nce)
supervised_contrastive = jax.jit(
  contrastive.supervised_contrastive, static_argnames='temperature'
)
query_diversity = jax.jit(
  contrastive.query_diversity, static_argnames=('delta', 'alpha', 'power')
)
SCORES = np.asarray([[1.0, 0.0], [0.5, 2.0], [-1.0, 3.0]], np.float32)
OWNER = np.asarray([0, 1, 1])
DIVERSITY = {'delta': 0.2, 'alpha': 32.0, 'power': 1.0}


def full(owner=OWNER, videos=2):
  return {
    'caption_video': np.asarray(owner),
    'caption_mask': np.ones(len(owner), bool),
    'video_mask': np.ones(videos, bool),
  }


@jax.jit
def nce_total(scores, where):
  per_caption, per_video = nce(scores, **where)
  return masked_mean(per_caption, where['caption_mask']) + masked_mean(
    per_video, where['video_mask']
  )


nce_and_gradient = jax.jit(jax.value_and_grad(nce_total))


def unit(rows):
  rows = np.asarray(rows, np.float32)
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_nce_value():
  np.testing.assert_allclose(
    nce_total(SCORES, full()), 0.4729620222522, rtol=1e-6
  )


def test_nce_per_item_by_hand():
  per_caption, per_video = nce(SCORES, **full())

  def log(*x):
    return math.log(sum(map(math.exp, x)))

  np.testing.assert_allclose(
    per_caption, [log(1, 0) - 1, log(0.5, 2) - 2, log(-1, 3) - 3], rtol=1e-4
  )
  np.testing.assert_allclose(
    per_video,
    [log(1, 0.5, -1) - 1, log(0, 2, 3) - log(2, 3)],
    rtol=1e-4,
  )


def test_nce_gradient():
  # For one caption and two videos, the gradient is the softmax minus the
  # positive. The softmax over the single caption is 1, so the other direction
  # adds nothing.
  where = full(owner=[0], videos=2)
  where['video_mask'] = np.asarray([True, True])
  gradient = jax.jit(jax.grad(lambda s: nce(s, **where)[0].sum()))(
    np.asarray([[0.0, math.log(3.0)]])
  )
  np.testing.assert_allclose(gradient, [[-0.75, 0.75]], rtol=1e-5)


def test_nce_of_large_scores():
  big = 1e4 * SCORES
  value, gradient = nce_and_gradient(big, full())
  np.testing.assert_allclose(value, 0.0, atol=1e-3)
  assert np.isfinite(gradient).all()


def test_nce_does_not_depend_on_the_order():
  order, columns = [2, 0, 1], [1, 0]
  shuffled = full(owner=[0, 1, 0])
  np.testing.assert_allclose(
    nce_total(SCORES[order][:, columns], shuffled),
    0.4729620222522,
    rtol=1e-6,
  )


def test_nce_of_nothing():
  where = full()
  where['caption_mask'] = np.zeros(3, bool)
  where['video_mask'] = np.zeros(2, bool)
  value, gradient = nce_and_gradient(SCORES, where)
  assert value == 0
  np.testing.assert_array_equal(gradient, 0)


def test_a_video_without_a_caption_adds_nothing_of_its_own():
  where = full(videos=3)
  scores = np.concatenate([SCORES, np.zeros((3, 1), np.float32)], axis=1)
  per_video = nce(scores, **where)[1]
  np.testing.assert_allclose(per_video[:2], nce(SCORES, **full())[1], rtol=1e-4)
  assert per_video[2] == 0


finite = st.floats(-100, 100, width=32)


@settings(max_examples=25, deadline=None)
@given(
  garbage=st.lists(finite, min_size=20, max_size=20),
  owner=st.lists(st.integers(0, 3), min_size=2, max_size=2),
)
def test_padding_changes_no_nce(garbage, owner):
  padded = np.asarray(garbage, np.float32).reshape(5, 4)
  padded[:3, :2] = SCORES
  where = {
    'caption_video': np.asarray([*OWNER, *owner]),
    'caption_mask': np.arange(5) < 3,
    'video_mask': np.arange(4) < 2,
  }
  value, gradient = nce_and_gradient(padded, where)
  np.testing.assert_allclose(value, 0.4729620222522, rtol=1e-5)
  np.testing.assert_array_equal(gradient[3:], 0)
  np.testing.assert_array_equal(gradient[:, 2:], 0)


def test_supervised_contrastive_by_hand():
  # Row 0 has one sibling at cosine 1, row 3 two strangers and two siblings.
  embeddings = unit([[1, 0], [0, 1], [1, 0], [0, -1]])
  losses, counts = supervised_contrastive(
    embeddings,
    labels=np.asarray([0, 1, 0, 2]),
    mask=np.ones(4, bool),
    temperature=0.5,
  )
  # The logits of row 0 with the others are 0, 2, 0.
  expected = math.log(2 + math.exp(2)) - 2
  np.testing.assert_allclose(losses, [expected, 0, expected, 0], rtol=1e-5)
  np.testing.assert_array_equal(counts, [True, False, True, False])


def test_supervised_contrastive_averages_over_siblings():
  embeddings = unit([[1, 0], [0, 1], [-1, 0]])
  losses, counts = supervised_contrastive(
    embeddings,
    labels=np.zeros(3, int),
    mask=np.ones(3, bool),
    temperature=1.0,
  )
  # Row 0 has cosines 0 and -1, row 1 has 0 and 0.
  first = math.log(1 + math.exp(-1)) + 0.5
  np.testing.assert_allclose(losses, [first, math.log(2), first], rtol=1e-5)
  assert counts.all()


def test_query_diversity_value():
  losses = query_diversity(
    unit([[1, 0], [1, 1], [0, 1], [2, 1]]),
    labels=np.asarray([0, 0, 1, 1]),
    mask=np.ones(4, bool),
    **DIVERSITY,
  )
  np.testing.assert_allclose(losses.mean(), 39.7629512331, rtol=1e-6)
  # Both captions of a pair have the same loss.
  np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


@pytest.mark.parametrize('power', [0.0, 0.5, 2.0])
def test_query_diversity_power(power):
  cosine = 0.6
  losses = query_diversity(
    unit([[1, 0], [0.6, 0.8]]),
    labels=np.zeros(2, int),
    mask=np.ones(2, bool),
    delta=0.1,
    alpha=2.0,
    power=power,
  )
  expected = (1 + cosine) ** power * math.log(1 + math.exp(2 * (cosine + 0.1)))
  np.testing.assert_allclose(losses, [expected] * 2, rtol=1e-5)


@pytest.mark.parametrize('power', [0.5, 1.0])
def test_opposite_queries_have_a_finite_gradient(power):
  def total(x):
    return query_diversity(
      x,
      labels=np.zeros(2, int),
      mask=np.ones(2, bool),
      delta=0.2,
      alpha=32.0,
      power=power,
    ).sum()

  x = unit([[0.6, 0.8], [-0.6, -0.8]])
  assert np.isfinite(jax.jit(jax.grad(total))(x)).all()


@jax.jit
def text_losses(x, labels, mask):
  groups = {'labels': labels, 'mask': mask}
  structure = masked_mean(*supervised_contrastive(x, temperature=0.1, **groups))
  return jnp.stack(
    [structure, masked_mean(query_diversity(x, **DIVERSITY, **groups), mask)]
  )


def test_text_losses_of_nothing():
  x = unit(np.random.default_rng(0).normal(size=(4, 3)))
  labels, mask = np.zeros(4, int), np.zeros(4, bool)
  np.testing.assert_array_equal(text_losses(x, labels, mask), 0)
  for index in range(2):
    loss = lambda x, i=index: text_losses(x, labels, mask)[i]
    gradient = jax.jit(jax.grad(loss))(x)
    np.testing.assert_array_equal(gradient, 0)


def test_no_siblings_no_text_loss():
  x = unit(np.random.default_rng(0).normal(size=(4, 3)))
  value = text_losses(x, np.arange(4), np.ones(4, bool))
  np.testing.assert_array_equal(value, 0)


def test_text_losses_do_not_depend_on_the_order():
  x = unit(np.random.default_rng(0).normal(size=(4, 3)))
  labels, mask = np.asarray([0, 0, 1, 1]), np.ones(4, bool)
  order = [2, 0, 3, 1]
  np.testing.assert_allclose(
    text_losses(x, labels, mask),
    text_losses(x[order], labels[order], mask),
    rtol=1e-5,
  )


@settings(max_examples=25, deadline=None)
@given(
  garbage=st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6),
  labels=st.lists(st.integers(0, 2), min_size=2, max_size=2),
)
def test_padding_changes_no_text_loss(garbage, labels):
  x = unit(np.random.default_rng(0).normal(size=(4, 3)))
  owner = np.asarray([0, 0, 0, 1])
  expected = text_losses(x, owner, np.ones(4, bool))
  padded = np.concatenate([x, np.reshape(garbage, (2, 3))]).astype(np.float32)
  value = text_losses(padded, np.asarray([*owner, *labels]), np.arange(6) < 4)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
