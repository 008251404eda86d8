"""Tests of dropout and of the hash behind it."""

import jax
import numpy as np
import pytest

from dreamprvr_jax.devices.meshes import by_row, make_mesh, replicated
from dreamprvr_jax.layers import dropout
from dreamprvr_jax.layers.dropout import Dropout
from dreamprvr_jax.rng import stream_key
from tests.helpers.models import apply

SHAPE = (64, 32, 64)


def drop(x, rate, seed=0, train=True):
  return apply(
    Dropout(rate), {}, x, train=train, rngs={'dropout': jax.random.key(seed)}
  )


_hashed_bits = jax.jit(dropout.hashed_bits, static_argnums=1)


def hashed_bits(key, shape):
  """Returns the bits of an array, on the host."""
  return np.asarray(_hashed_bits(key, shape))


def correlation(a, b):
  """Returns the correlation in units of its standard deviation."""
  a, b = (np.asarray(x, np.float64).ravel() for x in (a, b))
  a, b = ((x - x.mean()) / x.std() for x in (a, b))
  return np.mean(a * b) * np.sqrt(a.size)


@pytest.mark.parametrize('rate', [0.1, 0.25, 0.31, 0.5, 0.9])
@pytest.mark.parametrize('seed', [0, 1])
def test_share_of_zeros(rate, seed):
  kept = drop(np.ones(SHAPE, np.float32), rate, seed) != 0
  deviation = np.sqrt(rate * (1 - rate) / kept.size)
  assert abs(kept.mean() - (1 - rate)) < 5 * deviation
  # This also holds for every row and column.
  for axes in ((1, 2), (0, 1), (0, 2)):
    part = kept.mean(axis=axes)
    bound = 6 * deviation * np.sqrt(part.size)
    assert np.abs(part - (1 - rate)).max() < bound


def test_what_is_kept_is_scaled():
  x = np.arange(1, 4097, dtype=np.float32)
  out = drop(x, 0.2)
  kept = out != 0
  assert not kept.all()
  np.testing.assert_allclose(out[kept], x[kept] * 1.25, rtol=1e-6)


@pytest.mark.parametrize(('rate', 'train'), [(0.0, True), (0.5, False)])
def test_identity(rate, train):
  x = np.arange(5, dtype=np.float32)
  np.testing.assert_array_equal(drop(x, rate, train=train), x)


def test_needs_no_key_when_off():
  assert apply(Dropout(0.5), {}, np.ones(3), train=False).sum() == 3


def test_same_key_same_mask():
  x = np.ones(SHAPE, np.float32)
  np.testing.assert_array_equal(drop(x, 0.5, 3), drop(x, 0.5, 3))


def test_keys_and_steps_are_uncorrelated():
  keys = [
    *(stream_key(0, 'dropout', step) for step in range(4)),
    stream_key(1, 'dropout', 0),
    jax.random.key(0),
    jax.random.key(1),
  ]
  masks = [hashed_bits(key, SHAPE) >> 31 for key in keys]
  for i in range(len(masks)):
    for j in range(i):
      assert abs(correlation(masks[i], masks[j])) < 5


@pytest.mark.parametrize('bit', [31, 30, 20, 5, 0])
@pytest.mark.parametrize(
  ('axis', 'lag'), [(2, 1), (2, 2), (2, 32), (1, 1), (0, 1)]
)
def test_neighbours_are_uncorrelated(bit, axis, lag):
  mask = (hashed_bits(jax.random.key(7), SHAPE) >> bit) & 1
  mask = np.moveaxis(mask, axis, 0)
  assert abs(correlation(mask[lag:], mask[:-lag])) < 5


def test_every_bit_is_fair():
  bits = hashed_bits(jax.random.key(2), SHAPE).ravel()
  ones = ((bits[:, None] >> np.arange(32, dtype=np.uint32)) & 1).mean(axis=0)
  assert np.abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(bits.size)


def test_an_element_depends_on_its_index_alone():
  # The index is the flat one, so that a reshape changes nothing.
  key = jax.random.key(4)
  flat = hashed_bits(key, (24,))
  np.testing.assert_array_equal(hashed_bits(key, (2, 3, 4)).ravel(), flat)
  np.testing.assert_array_equal(hashed_bits(key, (12,)), flat[:12])


def test_one_device_or_eight():
  key = jax.random.key(5)
  mesh = make_mesh(8)
  x = np.random.default_rng(0).normal(size=(16, 40)).astype(np.float32)

  def run(key, x):
    return apply(Dropout(0.3), {}, x, train=True, rngs={'dropout': key})

  split = jax.jit(
    run,
    in_shardings=(replicated(mesh), by_row(mesh)),
    out_shardings=by_row(mesh),
  )(key, x)
  assert len(split.sharding.device_set) == 8
  assert split.addressable_shards[0].data.shape == (2, 40)
  np.testing.assert_array_equal(split, jax.jit(run)(key, x))


def test_gradient_is_that_of_the_mask():
  x = np.ones(100, np.float32)
  gradient = jax.jit(jax.grad(lambda x: drop(x, 0.5).sum()))(x)
  np.testing.assert_array_equal(gradient, drop(x, 0.5))
