"""Tests of reverse diffusion, against a loop in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.diffusion.sampler import sample
from dreamprvr_jax.diffusion.schedule import cosine_schedule
from dreamprvr_jax.errors import UserError

T = 6
SCHEDULE = cosine_schedule(T)
RNG = np.random.default_rng(0)
START = RNG.normal(size=(2, 3, 4))
NOISE = RNG.normal(size=(T, 2, 3, 4))
STEP_INPUTS = RNG.normal(size=(T, 4))


def network(x, step_input):
  return 0.5 * jnp.tanh(x) + 0.3 * step_input


def run(
  method='ddpm',
  num_steps=None,
  start=START,
  clip=1.0,
  net=network,
  **options,
):
  @jax.jit
  def sampled(start, step_inputs, noise):
    return sample(
      SCHEDULE,
      net,
      start,
      step_inputs=step_inputs,
      noise=lambda t: noise[t],
      method=method,
      num_steps=num_steps,
      clip=clip,
      **options,
    )

  given = (np.float32(x) for x in (start, STEP_INPUTS, NOISE))
  return np.asarray(sampled(*given))


def cumulative():
  """Returns alpha_bar and beta by their formulas."""
  f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
  beta = np.minimum(1 - f[1:] / f[:-1], 0.999)
  return np.cumprod(1 - beta), beta


def numpy_network(x, t):
  return 0.5 * np.tanh(x) + 0.3 * STEP_INPUTS[t]


def test_ddpm_equals_the_loop():
  abar, beta = cumulative()
  x = START
  for t in reversed(range(T)):
    previous = abar[t - 1] if t else 1.0
    predicted = numpy_network(x, t)
    x_0 = x / np.sqrt(abar[t]) - np.sqrt(1 / abar[t] - 1) * predicted
    x_0 = np.clip(x_0, -1, 1)
    mean = (
      beta[t] * np.sqrt(previous) * x_0
      + (1 - previous) * np.sqrt(1 - beta[t]) * x
    ) / (1 - abar[t])
    variance = beta[t] * (1 - previous) / (1 - abar[t])
    x = mean + (np.sqrt(variance) * NOISE[t] if t else 0.0)
  np.testing.assert_allclose(run(), x, atol=2e-4)
  assert (np.abs(x) < 0.999).sum() > 0


@pytest.mark.parametrize(
  ('num_steps', 'visited'),
  [(None, [5, 4, 3, 2, 1, 0]), (3, [5, 2, 0]), (1, [5])],
)
def test_ddim_equals_the_loop(num_steps, visited):
  abar, _ = cumulative()
  x = START
  for i, t in enumerate(visited):
    predicted = numpy_network(x, t)
    x_0 = (x - np.sqrt(1 - abar[t]) * predicted) / np.sqrt(abar[t])
    x_0 = np.clip(x_0, -1, 1)
    reached = abar[visited[i + 1]] if i + 1 < len(visited) else 1.0
    direction = (x - np.sqrt(abar[t]) * x_0) / np.sqrt(1 - abar[t])
    x = np.sqrt(reached) * x_0 + np.sqrt(1 - reached) * direction
  np.testing.assert_allclose(run('ddim', num_steps), x, atol=2e-4)


def test_the_result_is_within_the_clip():
  assert np.abs(run()).max() <= 1 + 1e-6
  wide = np.abs(run(clip=3.0)).max()
  assert 1 < wide <= 3 + 1e-5


@pytest.mark.parametrize('method', ['ddpm', 'ddim'])
def test_gradients_flow_through_every_step(method):
  # Each step's input reaches the result. The clip is too wide to matter: at the
  # clip the gradient is rightly zero.
  def total(step_inputs):
    return sample(
      SCHEDULE,
      network,
      START.astype(np.float32),
      step_inputs=step_inputs,
      noise=lambda t: jnp.zeros(START.shape, jnp.float32),
      method=method,
      clip=1e9,
    ).sum()

  at = STEP_INPUTS.astype(np.float32)
  gradient = np.asarray(jax.jit(jax.grad(total))(at))
  assert np.isfinite(gradient).all()
  assert (np.abs(gradient) > 0).all()
  # The gradient equals the slope from moving one step's entry by hand.
  moved = jax.jit(total)
  step = np.zeros_like(at)
  step[2, 1] = 0.01
  slope = np.subtract(moved(at + step), moved(at - step)) / 0.02
  np.testing.assert_allclose(gradient[2, 1], slope, rtol=3e-2)


def test_unknown_sampler():
  with pytest.raises(UserError, match=r"sampler 'euler' is unknown.*'ddim'"):
    run('euler')


def test_ddpm_does_not_skip():
  with pytest.raises(UserError, match='ddpm visits all 6 steps, not 3'):
    run('ddpm', 3)


def test_ddim_beyond_the_schedule():
  with pytest.raises(UserError, match='choose 1 to 6'):
    run('ddim', 7)


def test_states_end_with_the_sample():
  states = run(keep_states=True)
  assert states.shape == (T + 1, *START.shape)
  np.testing.assert_array_equal(states[0], START.astype(np.float32))
  np.testing.assert_array_equal(states[-1], run())


def ddim(eta, prediction):
  """Runs DDIM in double precision (Song et al. 2021, eq. 12 and 16)."""
  abar, _ = cumulative()
  x = START
  for t in reversed(range(T)):
    previous = abar[t - 1] if t else 1.0
    x_0 = numpy_network(x, t)
    if prediction == 'noise':
      x_0 = (x - np.sqrt(1 - abar[t]) * x_0) / np.sqrt(abar[t])
    x_0 = np.clip(x_0, -1, 1)
    direction = (x - np.sqrt(abar[t]) * x_0) / np.sqrt(1 - abar[t])
    sigma = eta * np.sqrt(
      (1 - previous) / (1 - abar[t]) * (1 - abar[t] / previous)
    )
    x = np.sqrt(previous) * x_0 + np.sqrt(1 - previous - sigma**2) * direction
    x = x + sigma * NOISE[t]
  return x


@pytest.mark.parametrize('eta', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('prediction', ['noise', 'start'])
def test_ddim_with_noise_and_either_prediction(eta, prediction):
  found = run('ddim', prediction=prediction, eta=eta)
  np.testing.assert_allclose(found, ddim(eta, prediction), atol=2e-4)


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'prediction': 'speed'}, "prediction 'speed' is unknown"),
    ({'method': 'ddim', 'eta': 2.0}, 'eta of DDIM is 2.0'),
    ({'method': 'ddim', 'eta': 0.5}, 'adds noise'),
  ],
)
def test_impossible_requests(options, words):
  with pytest.raises(UserError, match=words):
    sample(SCHEDULE, network, jnp.zeros(2), step_inputs=jnp.zeros(T), **options)
