"""Tests of the noise schedule."""

import math

import numpy as np
import pytest

from dreamprvr_jax.diffusion.process import sampling_steps
from dreamprvr_jax.diffusion.schedule import cosine_schedule, schedule_of
from dreamprvr_jax.errors import UserError
from tests.helpers.golden import load, part


@pytest.mark.parametrize(
  ('step', 'expected'),
  [(0, 0.972093), (4, 0.493844), (8, 0.0240917), (9, 2.40917e-5)],
)
def test_alpha_bar_of_ten_steps(step, expected):
  alpha_bar = cosine_schedule(10).alpha_bar
  np.testing.assert_allclose(alpha_bar[step], expected, rtol=2e-6)


def test_the_clip_acts_on_the_last_step_only():
  schedule = cosine_schedule(10)
  assert schedule.beta[9] == 0.999
  assert (schedule.beta[:9] < 0.8).all()
  # Without the limit, alpha_bar is the ratio f(t + 1) / f(0).
  f = [math.cos((k / 10 + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(10)]
  np.testing.assert_allclose(
    schedule.alpha_bar[:9], np.asarray(f[1:]) / f[0], rtol=1e-12
  )


def test_posterior_coefficients():
  schedule = cosine_schedule(10)
  assert schedule.posterior_start[0] == pytest.approx(1.0)
  assert schedule.posterior_current[0] == 0.0
  # Computed from alpha_bar: alpha_4 = abar_4 / abar_3 and so on.
  before, after = schedule.alpha_bar[3], schedule.alpha_bar[4]
  beta = 1 - after / before
  np.testing.assert_allclose(
    schedule.posterior_start[4], math.sqrt(before) * beta / (1 - after)
  )
  np.testing.assert_allclose(
    schedule.posterior_current[4],
    math.sqrt(after / before) * (1 - before) / (1 - after),
  )
  np.testing.assert_allclose(
    schedule.posterior_log_variance[4],
    math.log(beta * (1 - before) / (1 - after)),
  )
  assert schedule.alpha_bar_previous[0] == 1
  assert schedule.alpha_bar_previous[4] == before


def test_the_posterior_keeps_a_clean_state_clean():
  # Applied to x_t = sqrt(abar_t) x_0 it returns sqrt(abar_{t-1}) x_0.
  schedule = cosine_schedule(10)
  mean = schedule.posterior_start + schedule.posterior_current * np.sqrt(
    schedule.alpha_bar
  )
  np.testing.assert_allclose(mean, np.sqrt(schedule.alpha_bar_previous))


def test_first_log_variance_is_borrowed_from_the_second():
  log_variance = cosine_schedule(10).posterior_log_variance
  assert log_variance[0] == log_variance[1]
  assert log_variance[1] != log_variance[2]


def test_a_single_step():
  schedule = cosine_schedule(1)
  assert schedule.num_steps == 1
  np.testing.assert_allclose(schedule.beta, [0.999])
  np.testing.assert_allclose(schedule.posterior_start, [1.0])
  np.testing.assert_allclose(schedule.posterior_current, [0.0])
  assert np.isfinite(schedule.posterior_log_variance).all()


@pytest.mark.parametrize('steps', [2, 3, 50, 1000])
def test_any_length_is_finite_and_falls(steps):
  schedule = cosine_schedule(steps)
  assert schedule.alpha_bar.dtype == np.float64
  assert (np.diff(schedule.alpha_bar) < 0).all()
  assert (schedule.alpha_bar > 0).all()
  assert np.isfinite(schedule.posterior_log_variance).all()


def test_no_step():
  with pytest.raises(UserError, match='at least 1 step, not 0'):
    cosine_schedule(0)


@pytest.mark.parametrize(
  'name', ['cosine_50', 'cosine_1000', 'linear_50', 'linear_1000']
)
def test_golden_schedules(name):
  kind, _, steps = name.partition('_')
  schedule = schedule_of(kind, int(steps))
  golden = part(load('diffusionret_tiny'), f'schedule/{name}')
  pairs = {
    'betas': schedule.beta,
    'alphas_cumprod': schedule.alpha_bar,
    'alphas_cumprod_prev': schedule.alpha_bar_previous,
    'posterior_log_variance_clipped': schedule.posterior_log_variance,
    'posterior_mean_coef1': schedule.posterior_start,
    'posterior_mean_coef2': schedule.posterior_current,
  }
  for key in golden.keys() & pairs.keys():
    np.testing.assert_allclose(pairs[key], golden[key], rtol=1e-10)
  assert 'betas' in golden


@pytest.mark.parametrize(
  ('step', 'cosine', 'linear'),
  [
    (0, 0.998252486, 0.998000000),
    (10, 0.879122485, 0.616944614),
    (49, 0.000000971, 0.000007745),
  ],
)
def test_tabulated_values_of_fifty_steps(step, cosine, linear):
  for name, expected in (('cosine', cosine), ('linear', linear)):
    found = schedule_of(name, 50).alpha_bar[step]
    assert found == pytest.approx(expected, rel=1e-6, abs=6e-10)


@pytest.mark.parametrize('kept', [5, 10])
def test_steps_that_sampling_keeps(kept):
  golden = part(load('diffusionret_tiny'), f'schedule/cosine_50_spaced_{kept}')
  steps = sampling_steps(cosine_schedule(50), kept)
  np.testing.assert_array_equal(steps[::-1], golden['steps'])


def test_impossible_schedules():
  with pytest.raises(UserError, match='at least 21 steps, not 20'):
    schedule_of('linear', 20)
  with pytest.raises(UserError, match="'sine' is unknown"):
    schedule_of('sine', 20)
