"""Tests of norms."""

import jax
import jax.numpy as jnp
import numpy as np

from dreamprvr_jax import numerics

inverse_norm = jax.jit(numerics.inverse_norm)
l2_normalize = jax.jit(numerics.l2_normalize)
largest = jax.jit(numerics.largest, static_argnames='axis')


def gradient_of(total, x):
  return np.asarray(jax.jit(jax.grad(total))(x))


def test_by_hand():
  x = np.float32([[3, 4], [0, -2]])
  np.testing.assert_allclose(inverse_norm(x), [[0.2], [0.5]], rtol=1e-6)
  np.testing.assert_allclose(
    l2_normalize(x), [[0.6, 0.8], [0.0, -1.0]], rtol=1e-6
  )


def test_zero_stays_zero_with_a_finite_gradient():
  x = np.zeros((1, 3), np.float32)
  np.testing.assert_array_equal(l2_normalize(x), 0)
  gradient = gradient_of(lambda x: l2_normalize(x).sum(), x)
  assert np.isfinite(gradient).all()
  chosen = lambda x, there: jnp.where(there, l2_normalize(x), 0.0).sum()
  masked = jax.jit(jax.grad(chosen))(x, False)
  np.testing.assert_array_equal(masked, 0)


def test_small_vectors_have_norm_1():
  x = np.float32([[3e-10, 4e-10]])
  np.testing.assert_allclose(l2_normalize(x), [[0.6, 0.8]], rtol=1e-5)


def test_gradient_is_orthogonal_to_the_vector():
  x = np.float32([[3, 4]])
  gradient = gradient_of(lambda x: l2_normalize(x)[0, 0], x)
  # (1 - .36) / 5 and -.48 / 5.
  np.testing.assert_allclose(gradient, [[0.128, -0.096]], rtol=1e-5)


def test_bfloat16_is_squared_in_float32():
  x = np.ones((1, 1000), jnp.bfloat16)
  assert l2_normalize(x).dtype == jnp.bfloat16
  assert inverse_norm(x).dtype == jnp.float32
  np.testing.assert_allclose(inverse_norm(x), [[1000**-0.5]], rtol=1e-6)


def test_the_gradient_of_the_largest_goes_to_the_first():
  x = np.float32([[1, 3, 3], [-4, -4, -4], [2, 0, 1]])
  np.testing.assert_array_equal(largest(x), [3.0, -4.0, 2.0])
  weights = np.float32([5, 7, 11])
  gradient = gradient_of(lambda x: jnp.sum(weights * largest(x)), x)
  expected = [[0.0, 5.0, 0.0], [7.0, 0.0, 0.0], [11.0, 0.0, 0.0]]
  np.testing.assert_array_equal(gradient, expected)
  gradient = gradient_of(lambda x: jnp.sum(weights * largest(x, axis=0)), x.T)
  np.testing.assert_array_equal(gradient.T, expected)
