"""Tests of BERT's Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamprvr_jax.train.bert_adam import (
  bert_adam,
  clip_each_tensor,
  is_decayed,
  warmup_linear,
)


def updates(params, gradients, optimizer, count):
  """Yields the parameters after each update."""
  state = optimizer.init(params)

  @jax.jit
  def step(params, state):
    change, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, change), state

  for _ in range(count):
    params, state = step(params, state)
    yield params


def test_four_updates():
  params = {'x': {'kernel': jnp.asarray([1.0, -2.0])}}
  gradients = {'x': {'kernel': jnp.asarray([3.0, -4.0])}}
  optimizer = bert_adam(warmup_linear(0.1, 200))
  expected = [
    [1, -2],
    [0.787028, -1.786526],
    [0.291233, -1.289728],
    [-0.250456, -0.747042],
  ]
  course = updates(params, gradients, optimizer, 4)
  for after, values in zip(course, expected, strict=True):
    np.testing.assert_allclose(after['x']['kernel'], values, atol=2e-6)


def test_first_update_accumulates_without_moving():
  params = {'x': {'kernel': jnp.asarray([1.0])}}
  gradients = {'x': {'kernel': jnp.asarray([0.5])}}
  optimizer = bert_adam(warmup_linear(0.1, 200))
  update = jax.jit(optimizer.update)
  change, state = update(gradients, optimizer.init(params), params)
  np.testing.assert_array_equal(change['x']['kernel'], 0)
  moments = state[1]
  np.testing.assert_allclose(moments.first['x']['kernel'], 0.05, rtol=1e-5)
  np.testing.assert_allclose(moments.second['x']['kernel'], 2.5e-4, rtol=1e-5)


def test_schedule():
  rate = warmup_linear(2.0, 1000)
  got = [float(rate(jnp.asarray(k))) for k in (0, 5, 9, 10, 505, 1000, 1200)]
  expected = [0, 1.0, 1.8, 2.0, 2 * 0.495 / 0.99, 0, 0]
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


def test_schedule_without_warmup():
  rate = warmup_linear(2.0, 10, warmup=0.0)
  np.testing.assert_allclose([rate(jnp.asarray(k)) for k in (0, 5)], [2.0, 1.0])


def clip(gradients):
  transform = clip_each_tensor()
  update = jax.jit(transform.update)
  return jax.device_get(update(gradients, transform.init(gradients))[0])


def test_each_tensor_is_clipped_on_its_own():
  got = clip(
    {
      'large': np.float32([[3, 0], [0, 4]]),
      'small': np.float32([0.3, 0.4]),
      'zero': np.zeros(2, np.float32),
    }
  )
  np.testing.assert_allclose(got['large'], [[0.6, 0], [0, 0.8]], rtol=1e-5)
  np.testing.assert_allclose(got['small'], [0.3, 0.4], rtol=1e-6)
  np.testing.assert_array_equal(got['zero'], 0)


def test_stacked_blocks_are_clipped_block_by_block():
  stack = np.float32([[[3], [4]], [[0.1], [0.2]], [[0], [-7]]])

  def tree(name):
    return {name: {'block': {'kernel': stack}}}

  got = clip(tree('parallel'))['parallel']['block']['kernel']
  np.testing.assert_allclose(
    got[..., 0], [[0.6, 0.8], [0.1, 0.2], [0, -1]], rtol=1e-5
  )
  other = clip(tree('alone'))['alone']['block']['kernel']
  np.testing.assert_allclose(np.linalg.norm(other), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
  ('path', 'expected'),
  [
    ('query/block/attention/query/kernel', True),
    ('query/block/attention/query/bias', False),
    ('query/input/position/table', True),
    ('query/input/position/input_norm/scale', False),
    ('query/input/position/input_norm/bias', False),
    ('clip_encoder/register_projection/input_norm/scale', False),
    ('query/block/feed_forward/norm1/scale', True),
    ('query/block/feed_forward/norm1/bias', False),
    ('registers/sampler/mean_norm/scale', True),
    ('registers/estimator/norm_in_0/scale', True),
    ('registers/queries', True),
    ('registers/sampler/pooling/forward/kernel_hidden', True),
    ('registers/sampler/pooling/forward/bias_hidden', False),
  ],
)
def test_decay_rule(path, expected):
  assert is_decayed(tuple(path.split('/'))) == expected


def test_decay_moves_only_what_is_decayed():
  params = {
    'linear': {'kernel': jnp.ones(2), 'bias': jnp.ones(2)},
    'input_norm': {'scale': jnp.ones(2)},
    'norm1': {'scale': jnp.ones(2)},
  }
  gradients = jax.tree.map(jnp.zeros_like, params)
  (after,) = updates(params, gradients, bert_adam(lambda _: 0.5), 1)
  moved = jax.tree.map(lambda p: float(p[0]), after)
  assert moved['linear'] == {'kernel': pytest.approx(0.995), 'bias': 1.0}
  assert moved['input_norm'] == {'scale': 1.0}
  assert moved['norm1'] == {'scale': pytest.approx(0.995)}
