"""Noise schedule: coefficients in float64, used in float32."""

import dataclasses

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.errors import UserError

# As in Nichol and Dhariwal 2021: no singularity at the last step.
_MAX_BETA = 0.999


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Coefficients of a discrete diffusion process of t steps.

  All arrays are float64 of shape (t,), index = step; `alpha_bar` is the
  cumulative product of alpha = 1 - beta, after clipping beta.
  """

  beta: Float[np.ndarray, ' t']
  alpha_bar: Float[np.ndarray, ' t']
  alpha_bar_previous: Float[np.ndarray, ' t']
  posterior_start: Float[np.ndarray, ' t']  # coef1, multiplies x_0
  posterior_current: Float[np.ndarray, ' t']  # coef2, multiplies x_t
  posterior_log_variance: Float[np.ndarray, ' t']

  @property
  def num_steps(self) -> int:
    return len(self.beta)


def cosine_schedule(num_steps: int) -> Schedule:
  """Returns the cosine schedule with DDPM's posterior coefficients.

  beta_t = 1 - f(t+1) / f(t) clipped to [0, 0.999] with
  f(k) = cos^2(((k / T) + 0.008) / 1.008 * pi / 2). The posterior variance at
  t = 0 is 0: its logarithm takes the value of t = 1.

  Source: Nichol and Dhariwal 2021, eq. 17;
  docs/method.md, "Noise schedule".

  Raises:
    UserError: If `num_steps` is less than 1.
  """
  if num_steps < 1:
    raise UserError(f'a schedule needs at least 1 step, not {num_steps}')
  k = np.arange(num_steps + 1) / num_steps
  f = np.cos((k + 0.008) / 1.008 * np.pi / 2) ** 2
  return _from_betas(np.clip(1 - f[1:] / f[:-1], 0.0, _MAX_BETA))


def linear_schedule(num_steps: int) -> Schedule:
  """Returns the linear schedule: beta rises from 0.1 / T to 20 / T.

  Source: Ho et al. 2020, stretched to T steps;
  docs/method.md, "Noise schedule".

  Raises:
    UserError: If `num_steps` is less than 21: beta would reach 1.
  """
  if num_steps < 21:
    raise UserError(
      f'a linear schedule needs at least 21 steps, not {num_steps}; choose '
      'more, or the cosine schedule'
    )
  return _from_betas(np.linspace(0.1 / num_steps, 20 / num_steps, num_steps))


def _from_betas(beta: Float[np.ndarray, ' t']) -> Schedule:
  alpha = 1 - beta
  alpha_bar = np.cumprod(alpha)
  previous = np.append(1.0, alpha_bar[:-1])
  variance = beta * (1 - previous) / (1 - alpha_bar)
  # A single step has no successor to take the value from, and adds no noise.
  variance[0] = variance[1] if len(beta) > 1 else 1.0
  return Schedule(
    beta=beta,
    alpha_bar=alpha_bar,
    alpha_bar_previous=previous,
    posterior_start=beta * np.sqrt(previous) / (1 - alpha_bar),
    posterior_current=(1 - previous) * np.sqrt(alpha) / (1 - alpha_bar),
    posterior_log_variance=np.log(variance),
  )


SCHEDULES = {'cosine': cosine_schedule, 'linear': linear_schedule}


def schedule_of(name: str, num_steps: int) -> Schedule:
  """Returns the schedule called `name`.

  Raises:
    UserError: If the name is unknown, or the schedule needs more steps.
  """
  if name not in SCHEDULES:
    raise UserError(
      f'diffusion schedule {name!r} is unknown; choose from {sorted(SCHEDULES)}'
    )
  return SCHEDULES[name](num_steps)
