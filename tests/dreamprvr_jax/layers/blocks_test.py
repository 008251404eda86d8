"""Tests of the transformer blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.attention import Attention
from dreamprvr_jax.layers.blocks import (
  AttentionBlock,
  CrossAttentionBlock,
  FeedForward,
  ProjectedAttentionBlock,
  TokenReadout,
)
from dreamprvr_jax.layers.parallel_blocks import EXECUTIONS, ParallelBlocks
from tests.helpers.models import apply, initial

HEADS, WIDTH = 2, 4


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def with_random_values(variables, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda p: rng.normal(size=p.shape).astype(np.float32), variables
  )


def init(layer, *args):
  start = lambda: layer.init(jax.random.key(0), *args, train=False)
  return with_random_values(jax.eval_shape(start))


def numpy_norm(x, params):
  centred = x - x.mean(axis=-1, keepdims=True)
  deviation = np.sqrt(np.square(x).mean(-1) - np.square(x.mean(-1)) + 1e-5)
  return centred / deviation[..., None] * params['scale'] + params['bias']


def test_feed_forward_by_hand():
  layer = FeedForward(6, 0.3)
  x, update = normal(1, 3, WIDTH), normal(2, 3, WIDTH)
  variables = init(layer, x, update)
  p = jax.tree.map(np.asarray, variables['params'])
  h = numpy_norm((x + update).astype(np.float64), p['norm1'])
  y = np.maximum(h @ p['linear1']['kernel'] + p['linear1']['bias'], 0)
  assert y.shape[-1] == 6
  y = y @ p['linear2']['kernel'] + p['linear2']['bias']
  expected = numpy_norm(h + y, p['norm2'])
  got = apply(layer, variables, x, update, train=False)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ('layer', 'factor', 'tokens'),
  [(AttentionBlock, 4, ()), (CrossAttentionBlock, 1, ((1, 2, WIDTH),))],
)
def test_inner_width(layer, factor, tokens):
  args = [jnp.zeros(shape) for shape in ((1, 2, WIDTH), *tokens)]
  params = init(layer(HEADS, 0.0), *args)['params']
  kernel = params['feed_forward']['linear1']['kernel']
  assert kernel.shape == (WIDTH, factor * WIDTH)


def test_attention_block_ignores_masked_tokens():
  layer = AttentionBlock(HEADS, 0.0)
  x = normal(1, 2, 5, WIDTH)
  mask = np.broadcast_to(np.arange(5) < 3, (2, 1, 5))
  variables = init(layer, x)

  def run(x):
    return apply(layer, variables, x, None, mask, train=False)[:, :3]

  changed = x.copy()
  changed[:, 3:] = normal(2, 2, 2, WIDTH)
  np.testing.assert_array_equal(run(x), run(changed))


def test_attention_block_without_feed_forward_is_residual_attention():
  layer = AttentionBlock(HEADS, 0.0)
  x = normal(1, 1, 3, WIDTH)
  variables = init(layer, x)
  # Weights 0 and biases 1: attention adds 1 everywhere, which LN1 removes.
  params = jax.tree.map(np.zeros_like, variables['params'])
  params['attention']['value']['bias'] += 1.0
  for norm in ('norm1', 'norm2'):
    params['feed_forward'][norm]['scale'] += 1.0
  got = apply(layer, {'params': params}, x, train=False)
  expected = numpy_norm(x, {'scale': 1.0, 'bias': 0.0})
  np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_readout_equals_cross_attention_on_each_stack():
  query, stacks = normal(1, 2, WIDTH), normal(2, 3, 2, 5, WIDTH)
  cross = CrossAttentionBlock(HEADS, 0.2)
  variables = init(cross, query[:, None], stacks[0])
  got = apply(TokenReadout(HEADS, 0.2), variables, query, stacks, train=False)
  for stack in range(3):
    expected = apply(
      cross, variables, query[:, None], stacks[stack], train=False
    )
    np.testing.assert_allclose(got[stack], expected[:, 0], rtol=1e-4, atol=1e-4)


def test_attention_block_computes_the_first_tokens_alone():
  x, mask = normal(1, 2, 5, WIDTH), np.asarray([[[1, 1, 1, 0, 1]]] * 2, bool)
  whole = AttentionBlock(HEADS, 0.0)
  variables = init(whole, x)
  expected = apply(whole, variables, x, None, mask, train=False)
  got = apply(
    AttentionBlock(HEADS, 0.0, num_queries=3),
    variables,
    x,
    None,
    mask,
    train=False,
  )
  assert got.shape == (2, 3, WIDTH)
  np.testing.assert_allclose(got, expected[:, :3], rtol=1e-4, atol=1e-5)


def test_projected_block_by_hand():
  layer = ProjectedAttentionBlock(HEADS, 0.0)
  x = normal(1, 2, 5, WIDTH)
  variables = init(layer, x)
  params = variables['params']
  attended = apply(
    Attention(HEADS, 0.0), {'params': params['attention']}, x, x, train=False
  )
  out = params['output']
  h = x + attended @ out['kernel'] + out['bias']
  h = (h - h.mean(-1, keepdims=True)) / np.sqrt(
    np.var(h, axis=-1, keepdims=True) + 1e-5
  )
  norm = params['output_norm']
  np.testing.assert_allclose(
    apply(layer, variables, x, train=False),
    h * norm['scale'] + norm['bias'],
    rtol=1e-4,
    atol=1e-4,
  )


def parallel(dropout=0.0):
  layer = ParallelBlocks(3, HEADS, dropout, 'batched', False, jnp.float32)
  x, tables = normal(1, 2, 5, WIDTH), np.abs(normal(2, 3, 4, 5))
  mask = np.random.default_rng(3).random((2, 1, 5)) < 0.7
  return layer, init(layer, x, tables, mask), (x, tables, mask)


def test_parallel_blocks_equal_one_block_after_the_other():
  layer, variables, (x, tables, mask) = parallel()
  got = apply(layer, variables, x, tables, mask, train=False)
  assert got.shape == (3, 2, 4, WIDTH)
  for block in range(3):
    params = jax.tree.map(lambda p, i=block: p[i], variables['params']['block'])
    expected = apply(
      AttentionBlock(HEADS, 0.0, num_queries=4),
      {'params': params},
      x,
      tables[block],
      mask,
      train=False,
    )
    np.testing.assert_allclose(got[block], expected, rtol=1e-4, atol=1e-4)
  assert not np.allclose(got[0], got[1])


@functools.cache
def trained(**changes):
  """Returns a loss of the parallel blocks and its gradient."""
  layer, variables, args = parallel(dropout=0.3)

  def loss(variables):
    out = apply(
      layer.clone(**changes),
      variables,
      *args,
      train=True,
      rngs={'dropout': jax.random.key(1)},
    )
    return jnp.sum(out * normal(4, *out.shape))

  return jax.jit(jax.value_and_grad(loss))(variables)


@pytest.mark.parametrize('execution', EXECUTIONS)
@pytest.mark.parametrize('remat', [False, True], ids=['kept', 'remat'])
def test_executions_agree_dropout_and_gradients_included(execution, remat):
  value, gradient = trained(execution=execution, remat=remat)
  expected, expected_gradient = trained()
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    gradient,
    expected_gradient,
  )


def test_unknown_execution_is_named():
  layer, variables, args = parallel()
  with pytest.raises(UserError, match="parallel_execution 'both' is unknown"):
    layer.clone(execution='both').apply(variables, *args, train=False)


def test_parallel_blocks_start_from_different_values():
  layer, _, args = parallel()
  params = initial(layer, *args, train=False)['params']
  kernel = params['block']['attention']['query']['kernel']
  assert not np.allclose(kernel[0], kernel[1])
  assert 0.01 < np.std(kernel) < 0.03


def test_parallel_blocks_drop_independently():
  layer, variables, (x, _, mask) = parallel(dropout=0.5)
  same = jax.tree.map(lambda p: np.broadcast_to(p[:1], p.shape), variables)
  tables = np.ones((3, 4, 5), np.float32)

  def run(train, seed):
    return apply(
      layer,
      same,
      x,
      tables,
      mask,
      train=train,
      rngs={'dropout': jax.random.key(seed)},
    )

  off = run(False, 0)
  np.testing.assert_allclose(off[0], off[1], rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(off, run(False, 1))
  on = run(True, 0)
  assert not np.allclose(on[0], on[1])
  assert not np.allclose(on, run(True, 1))
  np.testing.assert_array_equal(on, run(True, 0))


def test_jit_equals_eager():
  layer, variables, args = parallel(dropout=0.3)
  rngs = {'dropout': jax.random.key(0)}

  def run(v, *args):
    return layer.apply(v, *args, train=True, rngs=rngs)

  np.testing.assert_allclose(
    jax.jit(run)(variables, *args), run(variables, *args), atol=1e-4
  )


def test_bfloat16_keeps_parameters_in_float32():
  layer = AttentionBlock(HEADS, 0.0, jnp.bfloat16)
  x = jnp.asarray(normal(1, 1, 3, WIDTH), jnp.bfloat16)
  variables = initial(layer, x, train=False)
  assert {p.dtype.name for p in jax.tree.leaves(variables)} == {'float32'}
  assert apply(layer, variables, x, train=False).dtype == jnp.bfloat16
