"""Tests of the text perturbation sampler."""

import jax
import jax.numpy as jnp
import numpy as np

from dreamprvr_jax.models import perturbation

RNG = np.random.default_rng(0)
QUERIES = (2 + 3 * RNG.normal(size=(2, 5))).astype(np.float32)
ALPHA = RNG.normal(size=(2, 3, 5)).astype(np.float32)
BETA = RNG.normal(size=(2, 3, 5)).astype(np.float32)
SCALE = 0.1
perturb_queries = jax.jit(perturbation.perturb_queries)


def numpy_parts(queries):
  q = queries.astype(np.float64)
  mean = q.mean(axis=1, keepdims=True)
  whitened = (q - mean) / np.sqrt(q.var(axis=1, keepdims=True) + 1e-5)
  spread = q.std(axis=1, ddof=1, keepdims=True)
  return mean, whitened, spread


def gradient_of(total, queries):
  """Returns the gradient of a function of the perturbed queries."""
  whole = lambda q: total(perturb_queries(q, ALPHA, BETA, SCALE))
  return np.asarray(jax.jit(jax.grad(whole))(queries))


def test_by_hand():
  mean, whitened, spread = (x[:, None] for x in numpy_parts(QUERIES))
  alpha = 1 + SCALE * spread * ALPHA
  beta = mean + SCALE * spread * BETA
  got = perturb_queries(QUERIES, ALPHA, BETA, SCALE)
  np.testing.assert_allclose(got, alpha * whitened + beta, rtol=1e-5, atol=1e-5)


def test_without_draws_it_is_the_whitened_query_about_its_mean():
  zero = np.zeros((1, 2, 2), np.float32)
  got = perturb_queries(np.float32([[1, 5]]), zero, zero, SCALE)
  np.testing.assert_allclose(got, [[[2.0, 4.0]] * 2], rtol=1e-5)


def test_gradient_is_that_of_the_whitened_part():
  weight = RNG.normal(size=(2, 3, 5))
  gradient = gradient_of(lambda perturbed: jnp.sum(weight * perturbed), QUERIES)
  _, n, spread = numpy_parts(QUERIES)
  # alpha held fixed; the derivative of (q - mean) / root is
  # (g - mean(g) - n mean(g n)) / root.
  g = (weight * (1 + SCALE * spread[:, None] * ALPHA)).sum(axis=1)

  def mean(x):
    return x.mean(axis=1, keepdims=True)

  root = np.sqrt(QUERIES.astype(np.float64).var(axis=1) + 1e-5)[:, None]
  expected = (g - mean(g) - n * mean(g * n)) / root
  np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_gradient_ignores_the_mean():
  # A shift of all channels changes only beta, which is a constant.
  gradient = gradient_of(jnp.sum, QUERIES)
  np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-5)


def test_a_padding_row_is_finite():
  zero = np.zeros((2, 5), np.float32)
  out = perturb_queries(zero, ALPHA, BETA, SCALE)
  np.testing.assert_array_equal(out, 0)
  gradient = gradient_of(lambda perturbed: jnp.square(perturbed).sum(), zero)
  assert np.isfinite(gradient).all()


def test_statistics_of_the_draws():
  count = 20000
  key = jax.random.split(jax.random.key(0))
  draws = [jax.random.normal(k, (1, count, 5)) for k in key]
  got = np.asarray(perturb_queries(QUERIES[:1], *draws, SCALE))[0]
  mean, n, spread = (x[0] for x in numpy_parts(QUERIES[:1]))
  deviation = SCALE * spread * np.sqrt(1 + n**2)
  error = np.abs(got.mean(axis=0) - (n + mean))
  assert (error < 5 * deviation / np.sqrt(count)).all()
  np.testing.assert_allclose(got.std(axis=0), deviation, rtol=0.03)
