"""Tests of the losses of the sampler and of the estimator."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dreamprvr_jax.losses.variational import gaussian_kl, noise_error


def test_kl_by_hand():
  # Per channel: (mu^2 + var - 1 - log var) / 2.
  mu = jnp.asarray([[0.0, 0.0], [1.0, -2.0], [0.0, 0.0]])
  logvar = jnp.log(jnp.asarray([[1.0, 1.0], [1.0, 1.0], [4.0, 0.5]]))
  expected = [0.0, 2.5, (3 - math.log(4)) / 2 + (-0.5 + math.log(2)) / 2]
  np.testing.assert_allclose(gaussian_kl(mu, logvar), expected, rtol=1e-6)


def test_kl_is_least_at_the_standard_normal():
  gradient = jax.grad(lambda m, v: gaussian_kl(m, v).sum(), (0, 1))(
    jnp.zeros((1, 3)), jnp.zeros((1, 3))
  )
  np.testing.assert_array_equal(gradient, 0)


def test_noise_error_is_per_video():
  noise = jnp.zeros((2, 1, 2))
  predicted = jnp.zeros((3, 2, 1, 2)).at[0, 1, 0, 0].set(6.0)
  # The sum is 36, over 3 steps, 1 register, 2 channels.
  np.testing.assert_allclose(noise_error(predicted, noise), [0.0, 6.0])


def test_noise_error_passes_gradient_to_the_noise():
  predicted, noise = jnp.ones((2, 1, 1, 1)), jnp.full((1, 1, 1), 3.0)
  gradient = jax.grad(lambda n: noise_error(predicted, n).sum())(noise)
  np.testing.assert_allclose(gradient, [[[4.0]]])
