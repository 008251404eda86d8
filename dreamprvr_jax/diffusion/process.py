"""The forward process and the steps of sampling."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from dreamprvr_jax.diffusion.schedule import Schedule
from dreamprvr_jax.errors import UserError


@struct.dataclass
class StepCoefficients:
  """float32 scalars of one step; stacked along t they feed a scan."""

  to_start_x: Array  # 1 / sqrt(alpha_bar)
  to_start_noise: Array  # sqrt(1 / alpha_bar - 1)
  signal: Array  # sqrt(alpha_bar)
  noise: Array  # sqrt(1 - alpha_bar)
  posterior_start: Array
  posterior_current: Array
  posterior_scale: Array  # standard deviation of the step's noise; 0 at t = 0
  signal_previous: Array  # sqrt(alpha_bar) of the state that is reached
  noise_previous: Array  # sqrt(1 - alpha_bar - ddim_scale^2) of that state
  ddim_scale: Array  # standard deviation of a DDIM step's noise; 0 if eta is 0


def q_sample(
  schedule: Schedule,
  start: Float[Array, 'b r d'],
  noise: Float[Array, 'b r d'],
) -> Float[Array, 't b r d']:
  """Returns x_t of every step: sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise."""
  signal = np.sqrt(schedule.alpha_bar).astype(np.float32)
  scale = np.sqrt(1 - schedule.alpha_bar).astype(np.float32)
  expand = lambda c: c[:, None, None, None]
  return expand(signal) * start + expand(scale) * noise


def q_sample_rows(
  schedule: Schedule,
  start: Float[Array, 'b ...'],
  noise: Float[Array, 'b ...'],
  steps: Int[Array, ' b'],
) -> Float[Array, 'b ...']:
  """Returns x_t of one step per row; `steps` may be traced."""
  signal = jnp.asarray(np.sqrt(schedule.alpha_bar), jnp.float32)
  scale = jnp.asarray(np.sqrt(1 - schedule.alpha_bar), jnp.float32)
  expand = lambda c: c[steps].reshape(-1, *[1] * (start.ndim - 1))
  return expand(signal) * start + expand(scale) * noise


def sampling_steps(schedule: Schedule, num_steps: int) -> np.ndarray:
  """Returns the step numbers that sampling visits, last (noisiest) first.

  They are evenly spaced and contain the noisiest step.

  Raises:
    UserError: If `num_steps` is not between 1 and the schedule's length.
  """
  total = schedule.num_steps
  if not 1 <= num_steps <= total:
    raise UserError(
      f'sampling with {num_steps} steps is not possible on a schedule of '
      f'{total} steps; choose 1 to {total}'
    )
  if num_steps == 1:
    return np.array([total - 1])
  return np.round(np.linspace(total - 1, 0, num_steps)).astype(int)


def step_coefficients(
  schedule: Schedule, steps: np.ndarray, eta: float = 0.0
) -> StepCoefficients:
  """Returns the coefficients of `steps`, stacked in that order (t,).

  Args:
    schedule: The schedule.
    steps: Step numbers in the order of sampling.
    eta: Share of DDPM's noise that DDIM adds (Song et al. 2021, eq. 16).
  """
  single = lambda values: jnp.asarray(values, jnp.float32)
  alpha_bar = schedule.alpha_bar[steps]
  # The state after the last step is x_0 itself: alpha_bar = 1.
  reached = np.append(schedule.alpha_bar[steps[1:]], 1.0)
  scale = np.exp(0.5 * schedule.posterior_log_variance[steps])
  kept = np.sqrt(1 - alpha_bar / reached)
  ddim_scale = eta * np.sqrt((1 - reached) / (1 - alpha_bar)) * kept
  return StepCoefficients(
    to_start_x=single(1 / np.sqrt(alpha_bar)),
    to_start_noise=single(np.sqrt(1 / alpha_bar - 1)),
    signal=single(np.sqrt(alpha_bar)),
    noise=single(np.sqrt(1 - alpha_bar)),
    posterior_start=single(schedule.posterior_start[steps]),
    posterior_current=single(schedule.posterior_current[steps]),
    posterior_scale=single(np.where(steps > 0, scale, 0.0)),
    signal_previous=single(np.sqrt(reached)),
    noise_previous=single(np.sqrt(1 - reached - np.square(ddim_scale))),
    ddim_scale=single(ddim_scale),
  )
