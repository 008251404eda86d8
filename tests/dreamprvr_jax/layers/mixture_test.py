"""Tests of the learned merging of parallel blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.layers.mixture import LearnedAggregation
from tests.helpers.models import apply

BLOCKS, BATCH, LENGTH, WIDTH = 3, 2, 5, 4


@pytest.fixture
def stacks():
  rng = np.random.default_rng(0)
  return rng.normal(size=(BLOCKS, BATCH, LENGTH, WIDTH)).astype(np.float32)


def make(stacks, temperature=0.6, dropout=0.0):
  layer = LearnedAggregation(2, dropout, temperature)
  start = lambda: layer.init(jax.random.key(0), stacks, train=False)
  rng = np.random.default_rng(1)
  return layer, jax.tree.map(
    lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32),
    jax.eval_shape(start),
  )


def test_logits_that_do_not_depend_on_the_block_give_the_mean(stacks):
  layer, variables = make(stacks)
  variables['params']['logits']['kernel'] *= 0.0
  got = apply(layer, variables, stacks, train=False)
  np.testing.assert_allclose(got, stacks.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_a_low_temperature_picks_one_block_at_each_position(stacks):
  layer, variables = make(stacks, temperature=1e-5)
  got = np.asarray(apply(layer, variables, stacks, train=False))
  distance = np.abs(stacks - got).max(axis=-1)
  np.testing.assert_allclose(distance.min(axis=0), 0, atol=1e-4)
  # The chosen block differs between positions.
  assert len(np.unique(distance.argmin(axis=0))) > 1


def test_temperature_divides_the_logits(stacks):
  layer, variables = make(stacks, temperature=0.5)
  scaled = jax.tree.map(lambda p: p, variables)
  scaled['params']['logits'] = jax.tree.map(
    lambda p: 4.0 * p, variables['params']['logits']
  )
  got = apply(layer, variables, stacks, train=False)
  other = apply(LearnedAggregation(2, 0.0, 2.0), scaled, stacks, train=False)
  np.testing.assert_allclose(got, other, rtol=1e-4, atol=1e-5)


def test_the_order_of_blocks_is_of_no_account(stacks):
  layer, variables = make(stacks)
  np.testing.assert_allclose(
    apply(layer, variables, stacks, train=False),
    apply(layer, variables, stacks[[2, 0, 1]], train=False),
    rtol=1e-4,
    atol=1e-5,
  )


def test_masked_tokens_count_through_the_mean_token_only(stacks):
  layer, variables = make(stacks)
  mask = np.broadcast_to(np.arange(LENGTH) < 3, (BATCH, LENGTH))

  def run(x, mask):
    return apply(layer, variables, x, mask=mask, train=False)

  same_mean = stacks.copy()
  same_mean[:, :, 3] += 2.0
  same_mean[:, :, 4] -= 2.0
  np.testing.assert_allclose(
    run(stacks, mask)[:, :3], run(same_mean, mask)[:, :3], atol=1e-4
  )
  assert not np.allclose(
    run(stacks, None)[:, :3], run(same_mean, None)[:, :3], atol=1e-3
  )
  other_mean = stacks.copy()
  other_mean[:, :, 3] += np.asarray([3.0, -1.0, 0.0, 0.5])
  assert not np.allclose(
    run(stacks, mask)[:, :3], run(other_mean, mask)[:, :3], atol=1e-3
  )


def test_dropout_and_jit(stacks):
  layer, variables = make(stacks, dropout=0.5)
  rngs = {'dropout': jax.random.key(0)}

  def run(train):
    return apply(layer, variables, stacks, train=train, rngs=rngs)

  assert not np.allclose(run(True), run(False))
  np.testing.assert_allclose(
    jax.jit(run, static_argnums=0)(True), run(True), atol=1e-4
  )
