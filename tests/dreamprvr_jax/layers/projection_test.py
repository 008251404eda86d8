"""Tests of input projection and position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.projection import (
  InputProjection,
  PositionEmbedding,
  TokenInput,
)
from tests.helpers.models import apply


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def init(layer, x):
  start = lambda: layer.init(jax.random.key(0), x, train=False)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32),
    jax.eval_shape(start),
  )


def numpy_norm(x, params):
  x = x.astype(np.float64)
  centred = x - x.mean(axis=-1, keepdims=True)
  deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-5)
  return centred / deviation * params['scale'] + params['bias']


def test_input_projection_by_hand():
  # Inputs are small, so that a wrong epsilon shows.
  x = 0.01 * normal(1, 2, 3, 5)
  layer = InputProjection(4, dropout=0.3)
  variables = init(layer, x)
  p = jax.tree.map(np.asarray, variables['params'])
  y = numpy_norm(x, p['input_norm'])
  expected = np.maximum(y @ p['linear']['kernel'] + p['linear']['bias'], 0)
  got = apply(layer, variables, x, train=False)
  np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
  assert (expected == 0).any()
  assert (expected > 0).any()


def test_position_embedding_by_hand():
  x = normal(1, 2, 3, 4)
  layer = PositionEmbedding(5, dropout=0.3)
  variables = init(layer, x)
  p = jax.tree.map(np.asarray, variables['params'])
  assert p['table'].shape == (5, 4)
  expected = numpy_norm(x + p['table'][:3], p['input_norm'])
  got = apply(layer, variables, x, train=False)
  np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_rows_beyond_the_sequence_are_not_used():
  x = normal(1, 1, 3, 4)
  layer = PositionEmbedding(5, 0.0)
  variables = init(layer, x)
  gradient = jax.grad(lambda v: jnp.sum(apply(layer, v, x, train=False) ** 3))(
    variables
  )['params']['table']
  assert np.abs(gradient[:3]).max() > 0
  np.testing.assert_array_equal(gradient[3:], 0)


def test_a_sequence_longer_than_the_table():
  layer = PositionEmbedding(2, 0.0)
  with pytest.raises(
    UserError,
    match='a sequence of 3 tokens is longer than the position table of 2',
  ):
    layer.init(jax.random.key(0), jnp.zeros((1, 3, 4)), train=False)


def test_padding_changes_no_other_token():
  x = normal(1, 1, 4, 5)
  layer = TokenInput(4, 6, 0.0)
  variables = init(layer, x)
  changed = x.copy()
  changed[:, 2:] = 0

  def run(x):
    return apply(layer, variables, x, train=False)

  np.testing.assert_array_equal(run(x)[:, :2], run(changed)[:, :2])
  np.testing.assert_allclose(run(x[:, :2]), run(x)[:, :2], atol=1e-5)


def test_dropout_jit_and_dtype():
  x = normal(1, 2, 4, 5)
  layer = TokenInput(4, 6, 0.5)
  variables = init(layer, x)

  def run(train, seed):
    return apply(
      layer, variables, x, train=train, rngs={'dropout': jax.random.key(seed)}
    )

  np.testing.assert_array_equal(run(False, 0), run(False, 1))
  assert not np.allclose(run(True, 0), run(True, 1))
  np.testing.assert_allclose(
    jax.jit(run, static_argnums=0)(True, 0), run(True, 0), atol=1e-4
  )
  half = TokenInput(4, 6, 0.5, jnp.bfloat16)
  assert apply(half, variables, x, train=False).dtype == jnp.bfloat16
