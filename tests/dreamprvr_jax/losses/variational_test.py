"""Tests of the losses of the sampler and of the estimator."""

import math

import jax
import numpy as np

from dreamprvr_jax.losses import variational

gaussian_kl = jax.jit(variational.gaussian_kl)
noise_error = jax.jit(variational.noise_error)


def test_kl_by_hand():
  # Per channel: (mu^2 + var - 1 - log var) / 2.
  mu = np.float32([[0.0, 0.0], [1.0, -2.0], [0.0, 0.0]])
  logvar = np.log(np.float32([[1, 1], [1, 1], [4, 0.5]]))
  expected = [0.0, 2.5, (3 - math.log(4)) / 2 + (-0.5 + math.log(2)) / 2]
  np.testing.assert_allclose(gaussian_kl(mu, logvar), expected, rtol=1e-6)


def test_kl_is_least_at_the_standard_normal():
  total = lambda m, v: gaussian_kl(m, v).sum()
  zeros = np.zeros((1, 3), np.float32)
  gradient = jax.jit(jax.grad(total, (0, 1)))(zeros, zeros)
  np.testing.assert_array_equal(gradient, 0)


def test_noise_error_is_per_video():
  noise = np.zeros((2, 1, 2), np.float32)
  predicted = np.zeros((3, 2, 1, 2), np.float32)
  predicted[0, 1, 0, 0] = 6
  # The sum is 36, over 3 steps, 1 register, 2 channels.
  np.testing.assert_allclose(noise_error(predicted, noise), [0.0, 6.0])


def test_noise_error_passes_gradient_to_the_noise():
  predicted = np.ones((2, 1, 1, 1), np.float32)
  noise = np.full((1, 1, 1), 3, np.float32)
  total = lambda n: noise_error(predicted, n).sum()
  gradient = jax.jit(jax.grad(total))(noise)
  np.testing.assert_allclose(gradient, [[[4.0]]])
