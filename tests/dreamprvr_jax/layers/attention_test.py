"""Tests of attention, against a loop over heads in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.attention import Attention, SingleQueryAttention
from tests.helpers.models import apply

HEADS, WIDTH = 2, 4


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def with_random_values(variables, seed=0):
  """Returns variables large enough that every part of a layer matters."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda p: rng.normal(size=p.shape).astype(np.float32), variables
  )


def make_attention(dropout=0.0):
  layer = Attention(HEADS, dropout)
  x = jnp.zeros((1, 2, WIDTH))
  start = lambda: layer.init(jax.random.key(0), x, x, train=False)
  return layer, with_random_values(jax.eval_shape(start))


def reference(params, queries, keys, mask=None, table=None):
  """Returns the attention of one video, computed head by head."""
  params = jax.tree.map(np.asarray, params['params'])
  out = []
  for head in range(HEADS):
    q, k, v = (
      x @ params[name]['kernel'][:, head] + params[name]['bias'][head]
      for name, x in (('query', queries), ('key', keys), ('value', keys))
    )
    logits = q @ k.T / np.sqrt(WIDTH / HEADS)
    if table is not None:
      logits = logits * table
    weights = np.exp(logits)
    if mask is not None:
      weights = weights * mask
    out.append(weights / weights.sum(axis=1, keepdims=True) @ v)
  return np.concatenate(out, axis=1)


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('tabled', [False, True])
def test_equals_the_loop_over_heads(masked, tabled):
  layer, variables = make_attention()
  queries, keys = normal(1, 2, 3, WIDTH), normal(2, 2, 5, WIDTH)
  mask = np.random.default_rng(3).random((2, 3, 5)) < 0.6
  mask[..., 0] = True
  table = np.abs(normal(4, 3, 5))
  options = {}
  if masked:
    options['mask'] = mask
  if tabled:
    options['table'] = table
  got = apply(layer, variables, queries, keys, train=False, **options)
  assert got.shape == (2, 3, WIDTH)
  for video in range(2):
    expected = reference(
      variables,
      queries[video],
      keys[video],
      mask[video] if masked else None,
      table if tabled else None,
    )
    np.testing.assert_allclose(got[video], expected, rtol=1e-4, atol=1e-5)


def test_masked_keys_change_nothing():
  layer, variables = make_attention()
  queries, keys = normal(1, 2, 3, WIDTH), normal(2, 2, 5, WIDTH)
  mask = np.zeros((2, 1, 5), bool)
  mask[:, :, :3] = True

  def run(keys):
    return apply(layer, variables, queries, keys, mask=mask, train=False)

  changed = keys.copy()
  changed[:, 3:] = 50 * normal(5, 2, 2, WIDTH)
  np.testing.assert_array_equal(run(keys), run(changed))
  changed[:, 2] += 1
  assert not np.allclose(run(keys), run(changed))


def test_a_table_of_zeros_gives_the_average_not_nothing():
  layer, variables = make_attention()
  x = normal(1, 1, 4, WIDTH)
  got = apply(layer, variables, x, x, table=np.zeros((4, 4)), train=False)
  value = variables['params']['value']
  mean = np.einsum('d,dhk->hk', x[0].mean(axis=0), value['kernel'])
  expected = (mean + value['bias']).reshape(-1)
  np.testing.assert_allclose(got[0], np.tile(expected, (4, 1)), rtol=1e-4)


def test_a_row_without_a_real_key_is_finite():
  layer, variables = make_attention()
  x = normal(1, 2, 3, WIDTH)
  mask = np.zeros((2, 3, 3), bool)

  def loss(x):
    out = apply(layer, variables, x, x, mask=mask, train=False)
    return jnp.sum(jnp.square(out))

  value, gradient = jax.value_and_grad(loss)(x)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()


def test_jit_equals_eager():
  layer, variables = make_attention()
  x = normal(1, 2, 3, WIDTH)

  def run(x):
    return layer.apply(variables, x, x, train=False)

  np.testing.assert_allclose(jax.jit(run)(x), run(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('masked', [False, True])
def test_single_query_equals_attention_on_each_stack(masked):
  layer, variables = make_attention(dropout=0.5)
  single = SingleQueryAttention(HEADS, dropout=0.5)
  query, stacks = normal(1, 2, WIDTH), normal(2, 3, 2, 5, WIDTH)
  mask = np.arange(5) < np.asarray([[5], [2]]) if masked else None
  got = apply(single, variables, query, stacks, mask=mask, train=False)
  assert got.shape == (3, 2, WIDTH)
  for stack in range(3):
    expected = apply(
      layer,
      variables,
      query[:, None],
      stacks[stack],
      mask=mask[:, None] if masked else None,
      train=False,
    )
    np.testing.assert_allclose(got[stack], expected[:, 0], rtol=1e-4, atol=1e-5)


def test_single_query_has_the_parameters_of_attention():
  _, variables = make_attention()
  single = SingleQueryAttention(HEADS, 0.0)
  inputs = np.zeros((1, WIDTH)), np.zeros((1, 1, 2, WIDTH))
  start = lambda: single.init(jax.random.key(0), *inputs, train=False)
  own = jax.eval_shape(start)
  assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, variables)


def test_dropout_removes_or_doubles_a_whole_key_with_its_bias():
  # A single key has weight 1; at rate 1/2 dropout makes a head's weight 0 or 2,
  # which multiplies the value and its bias.
  layer, variables = make_attention(dropout=0.5)
  single = SingleQueryAttention(HEADS, dropout=0.5)
  query, key = normal(1, 64, WIDTH), normal(2, 64, 1, WIDTH)
  rngs = {'dropout': jax.random.key(1)}
  full = apply(layer, variables, query[:, None], key, train=False)[:, 0]
  outputs = (
    apply(layer, variables, query[:, None], key, train=True, rngs=rngs)[:, 0],
    apply(single, variables, query, key[None], train=True, rngs=rngs)[0],
  )
  for output in outputs:
    ratio = np.asarray(output / full)
    dropped = np.abs(ratio) < 1e-5
    assert 0.2 < dropped.mean() < 0.8
    np.testing.assert_allclose(ratio[~dropped], 2.0, rtol=1e-3)


@pytest.mark.parametrize('layer', [Attention, SingleQueryAttention])
def test_heads_that_do_not_divide_the_width(layer):
  query, keys = jnp.zeros((1, 2, 8)), jnp.zeros((1, 1, 2, 8))
  if layer is Attention:
    keys = keys[0]
  else:
    query = query[:, 0]
  with pytest.raises(UserError, match='3 heads do not divide the width 8'):
    layer(3, 0.0).init(jax.random.key(0), query, keys, train=False)
