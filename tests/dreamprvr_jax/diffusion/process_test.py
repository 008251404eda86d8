"""Tests of the forward process and of the sampler's coefficients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.diffusion.process import (
  q_sample,
  sampling_steps,
  step_coefficients,
)
from dreamprvr_jax.diffusion.schedule import cosine_schedule
from dreamprvr_jax.errors import UserError

SCHEDULE = cosine_schedule(10)


def test_q_sample_by_hand():
  start, noise = jnp.full((1, 1, 2), 2.0), jnp.full((1, 1, 2), -1.0)
  x_t = q_sample(SCHEDULE, start, noise)
  assert x_t.shape == (10, 1, 1, 2)
  assert x_t.dtype == jnp.float32
  for step, abar in ((0, 0.972093), (4, 0.493844), (9, 2.40917e-5)):
    expected = 2 * math.sqrt(abar) - math.sqrt(1 - abar)
    np.testing.assert_allclose(x_t[step], expected, rtol=1e-5)


def test_the_true_noise_predicts_the_start():
  rng = np.random.default_rng(0)
  start = rng.normal(size=(2, 3, 4)).astype(np.float32)
  noise = rng.normal(size=(2, 3, 4)).astype(np.float32)
  of_steps = step_coefficients(SCHEDULE, np.arange(10)[::-1])
  c = jax.tree.map(lambda x: x[::-1, None, None, None], of_steps)
  x_t = q_sample(SCHEDULE, start, noise)
  back = c.to_start_x * x_t - c.to_start_noise * noise
  np.testing.assert_allclose(
    back[:9], np.broadcast_to(start, (9, 2, 3, 4)), atol=1e-5
  )
  # The last step multiplies rounding errors by 204.
  np.testing.assert_allclose(back[9], start, atol=1e-3)


@pytest.mark.parametrize(
  ('num_steps', 'expected'),
  [
    (10, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
    (4, [9, 6, 3, 0]),
    (2, [9, 0]),
    (1, [9]),
  ],
)
def test_sampling_steps(num_steps, expected):
  np.testing.assert_array_equal(sampling_steps(SCHEDULE, num_steps), expected)


@pytest.mark.parametrize('num_steps', [0, 11])
def test_impossible_sampling_steps(num_steps):
  with pytest.raises(
    UserError, match=f'sampling with {num_steps} steps.*choose 1 to 10'
  ):
    sampling_steps(SCHEDULE, num_steps)


def test_coefficients_of_every_step():
  c = step_coefficients(SCHEDULE, np.arange(10)[::-1])
  np.testing.assert_allclose(c.to_start_x[0], 203.73, rtol=1e-4)
  np.testing.assert_allclose(
    c.to_start_noise[0], math.sqrt(203.7345**2 - 1), rtol=1e-4
  )
  np.testing.assert_allclose(c.posterior_start[-1], 1.0, rtol=1e-6)
  assert c.posterior_scale[-1] == 0
  assert (c.posterior_scale[:-1] > 0).all()
  np.testing.assert_allclose(c.signal_previous[0] ** 2, 0.0240917, rtol=1e-5)
  assert c.signal_previous[-1] == 1
  assert c.noise_previous[-1] == 0
  assert c.to_start_x.dtype == jnp.float32


def test_skipping_looks_at_the_next_visited_step():
  c = step_coefficients(SCHEDULE, np.asarray([9, 4]))
  np.testing.assert_allclose(
    c.signal_previous, [math.sqrt(0.493844), 1.0], rtol=1e-5
  )
