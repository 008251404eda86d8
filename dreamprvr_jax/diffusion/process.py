"""The forward process and its inverse relations, for noise prediction."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from dreamprvr_jax.diffusion.schedule import Schedule
from dreamprvr_jax.errors import UserError


@struct.dataclass
class StepCoefficients:
  """float32 scalars of one step; stacked along t they feed a scan."""

  to_start_x: Any  # 1 / sqrt(alpha_bar)
  to_start_noise: Any  # sqrt(1 / alpha_bar - 1)
  posterior_start: Any
  posterior_current: Any
  posterior_scale: Any  # standard deviation of the step's noise; 0 at t = 0
  signal_previous: Any  # sqrt(alpha_bar) of the step before in the sampling
  noise_previous: Any  # sqrt(1 - alpha_bar) of it


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


def predict_start(
  schedule: Schedule,
  x_t: Float[Array, 't b r d'],
  noise: Float[Array, 't b r d'],
) -> Float[Array, 't b r d']:
  """Returns the x_0 that each step's noise prediction implies, unclipped."""
  to_x = np.sqrt(1 / schedule.alpha_bar).astype(np.float32)
  to_noise = np.sqrt(1 / schedule.alpha_bar - 1).astype(np.float32)
  expand = lambda c: c[:, None, None, None]
  return expand(to_x) * x_t - expand(to_noise) * noise


def sampling_steps(schedule: Schedule, num_steps: int) -> np.ndarray:
  """Returns the step numbers that sampling visits, last (noisiest) first.

  Evenly spaced and always containing the noisiest step.

  Raises:
    UserError: If `num_steps` is not between 1 and the schedule's length.
  """
  total = schedule.num_steps
  if not 1 <= num_steps <= total:
    raise UserError(
      f'sampling with {num_steps} steps is not possible on a schedule of '
      f'{total} steps; choose 1 to {total}'
    )
  return (
    np.round(np.linspace(total - 1, 0, num_steps)).astype(int)
    if (num_steps > 1)
    else np.array([total - 1])
  )


def step_coefficients(
  schedule: Schedule, steps: np.ndarray
) -> StepCoefficients:
  """Returns the coefficients of `steps`, stacked in that order (t,)."""
  single = lambda values: jnp.asarray(values, jnp.float32)
  alpha_bar = schedule.alpha_bar[steps]
  # The state after the last step is x_0 itself: alpha_bar = 1.
  reached = np.append(schedule.alpha_bar[steps[1:]], 1.0)
  scale = np.exp(0.5 * schedule.posterior_log_variance[steps])
  return StepCoefficients(
    to_start_x=single(1 / np.sqrt(alpha_bar)),
    to_start_noise=single(np.sqrt(1 / alpha_bar - 1)),
    posterior_start=single(schedule.posterior_start[steps]),
    posterior_current=single(schedule.posterior_current[steps]),
    posterior_scale=single(np.where(steps > 0, scale, 0.0)),
    signal_previous=single(np.sqrt(reached)),
    noise_previous=single(np.sqrt(1 - reached)),
  )
