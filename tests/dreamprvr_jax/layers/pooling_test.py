"""Tests of the poolings, against loops in numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.layers.pooling import (
  GeneralizedPooling,
  ScoredPooling,
  SupportAttention,
  TokenAttention,
)
from dreamprvr_jax.layers.sinusoids import sinusoid_table
from tests.helpers.models import apply


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def init(layer, *args, **options):
  start = lambda: layer.init(jax.random.key(0), *args, **options)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32),
    jax.eval_shape(start),
  )


def test_scored_pooling_by_hand():
  x = np.asarray([[[0.0, 1.0], [1.0, 0.0], [5.0, 5.0]]])
  mask = np.asarray([[True, True, False]])
  variables = {
    'params': {'score': {'kernel': np.asarray([[math.log(3)], [0.0]])}}
  }
  # Scores 0 and log 3: weights 1/4 and 3/4.
  got = apply(ScoredPooling(), variables, x, mask=mask)
  np.testing.assert_allclose(got, [[0.75, 0.25]], rtol=1e-5)


def test_scored_pooling_ignores_masked_tokens():
  x = normal(1, 2, 4, 3)
  mask = np.arange(4) < np.asarray([[3], [1]])
  variables = init(ScoredPooling(), x, mask=mask)

  def run(x):
    return apply(ScoredPooling(), variables, x, mask=mask)

  changed = np.where(mask[..., None], x, 99.0)
  np.testing.assert_array_equal(run(x), run(changed))
  np.testing.assert_allclose(run(x)[1], x[1, 0], rtol=1e-5)


def test_scored_pooling_of_nothing_is_finite():
  x, mask = normal(1, 2, 4, 3), np.zeros((2, 4), bool)
  variables = init(ScoredPooling(), x, mask=mask)

  def loss(x):
    return apply(ScoredPooling(), variables, x, mask=mask).sum()

  assert np.isfinite(jax.grad(loss)(x)).all()


def test_token_attention_by_hand():
  x = normal(1, 2, 5, 4)
  variables = init(TokenAttention(), x)
  params = jax.tree.map(np.asarray, variables['params'])
  assert params['hidden']['kernel'].shape == (4, 2)
  scores = np.tanh(x @ params['hidden']['kernel']) @ params['score']['kernel']
  weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
  got = apply(TokenAttention(), variables, x)
  np.testing.assert_allclose(
    got, (weights * x).sum(axis=1), rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize('scale', [1.0, 300.0])
def test_support_attention_equals_a_built_support(scale):
  """Videos 0 and 2 have three rows and one; video 1 has only zero vectors."""
  x = scale * normal(1, 4, 5, 4)
  mask = np.arange(5) < np.asarray([5, 2, 3, 4])[:, None]
  video, zeros = np.asarray([0, 0, 0, 2]), np.asarray([2.0, 3.0, 0.0])
  given = {'mask': mask, 'video': video, 'zeros': zeros}
  variables = init(SupportAttention(), x, **given)
  got = apply(SupportAttention(), variables, x, **given)
  for v in range(3):
    rows = [x[n][mask[n]] for n in range(4) if video[n] == v]
    support = np.concatenate([*rows, np.zeros((int(zeros[v]), 4), np.float32)])
    expected = apply(TokenAttention(), variables, support[None])
    np.testing.assert_allclose(got[v], expected[0], rtol=1e-4, atol=1e-6)


def test_support_attention_of_nothing_is_zero():
  x = normal(1, 2, 4, 6)
  given = {
    'mask': np.asarray([[True] * 4, [False] * 4]),
    'video': np.asarray([0, 1]),
    'zeros': np.zeros(3, np.float32),
  }
  variables = init(SupportAttention(), x, **given)

  def run(x):
    return apply(SupportAttention(), variables, x, **given)

  np.testing.assert_array_equal(run(x)[1:], 0)
  gradient = jax.grad(lambda x: run(x).sum())(x)
  assert np.isfinite(gradient).all()
  np.testing.assert_array_equal(gradient[1], 0)


def test_sinusoid_table():
  code = sinusoid_table(3, 32)
  assert code.shape == (3, 32)
  np.testing.assert_array_equal(code[0, 0::2], 0)
  np.testing.assert_array_equal(code[0, 1::2], 1)
  slow = 10000 ** (-2 / 32)
  np.testing.assert_allclose(
    code[2, :4],
    [math.sin(2), math.cos(2), math.sin(2 * slow), math.cos(2 * slow)],
    rtol=1e-5,
  )


def sigmoid(x):
  return 1 / (1 + math.exp(-x))


def recurrent_states(params, inputs):
  """Returns the states of a gated recurrent unit, one number at a time."""
  width = len(params['bias_hidden']) // 3
  state, states = [0.0] * width, []
  for x in inputs:

    def gate(i, x=x, h=tuple(state)):
      return (
        sum(x[j] * params['kernel_input'][j, i] for j in range(len(x)))
        + params['bias_input'][i],
        sum(h[j] * params['kernel_hidden'][j, i] for j in range(width))
        + params['bias_hidden'][i],
      )

    fresh = []
    for i in range(width):
      r = sigmoid(sum(gate(i)))
      z = sigmoid(sum(gate(width + i)))
      from_input, from_state = gate(2 * width + i)
      n = math.tanh(from_input + r * from_state)
      fresh.append((1 - z) * n + z * state[i])
    state = fresh
    states.append(state)
  return np.asarray(states)


def test_generalized_pooling_by_a_loop():
  layer = GeneralizedPooling(width=4)
  x = normal(1, 2, 5, 3)
  variables = init(layer, x)
  params = jax.tree.map(np.asarray, variables['params'])
  code = sinusoid_table(5, 4).astype(np.float64)
  forward = recurrent_states(params['forward'], code)
  backward = recurrent_states(params['backward'], code[::-1])[::-1]
  logits = (forward + backward) / 2 @ params['score']['kernel'][:, 0] / 0.1
  weights = np.exp(logits - logits.max())
  weights = weights / weights.sum()
  expected = np.zeros((2, 3))
  for video in range(2):
    for channel in range(3):
      ordered = sorted(x[video, :, channel], reverse=True)
      expected[video, channel] = np.dot(weights, ordered)
  got = apply(layer, variables, x)
  np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_generalized_pooling_does_not_see_the_order():
  layer = GeneralizedPooling(width=4)
  x = normal(1, 2, 5, 3)
  variables = init(layer, x)
  np.testing.assert_array_equal(
    apply(layer, variables, x), apply(layer, variables, x[:, ::-1])
  )


@pytest.mark.parametrize('name', ['forward', 'backward'])
def test_recurrent_start(name):
  layer = GeneralizedPooling()
  variables = layer.init(jax.random.key(0), jnp.zeros((1, 6, 3)))
  params = variables['params'][name]
  assert params['kernel_input'].shape == (32, 96)
  hidden = np.asarray(params['kernel_hidden'])
  np.testing.assert_allclose(hidden @ hidden.T, np.eye(32), atol=1e-5)
  bound = math.sqrt(6 / (32 + 96))
  assert 0.9 * bound < np.abs(params['kernel_input']).max() <= bound
  np.testing.assert_array_equal(params['bias_input'], 0)


def test_jit_equals_eager():
  layer = GeneralizedPooling(width=4)
  x = normal(1, 2, 5, 3)
  variables = init(layer, x)
  np.testing.assert_allclose(
    jax.jit(layer.apply)(variables, x), layer.apply(variables, x), rtol=1e-4
  )
