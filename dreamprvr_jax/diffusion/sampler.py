"""Reverse diffusion as one `lax.scan`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dreamprvr_jax.diffusion import process
from dreamprvr_jax.diffusion.schedule import Schedule
from dreamprvr_jax.errors import UserError

SAMPLERS = ('ddpm', 'ddim')


def sample(
  schedule: Schedule,
  predict_noise: Callable[[Float[Array, 'b r d'], Any], Any],
  start: Float[Array, 'b r d'],
  *,
  step_inputs: Any,
  noise: Callable[[Any], Float[Array, 'b r d']],
  method: str = 'ddpm',
  num_steps: int | None = None,
  clip: float = 1.0,
) -> Float[Array, 'b r d']:
  """Returns x_0 after the reverse process from `start`; float32.

  Gradients flow through every step.

  Args:
    schedule: The schedule that the noise predictor was trained with.
    predict_noise: Called with the state and one step's slice of
      `step_inputs`; returns the predicted noise, shaped like the state.
    start: x_T.
    step_inputs: A tree of arrays of leading axis T, index = step number;
      each step sees its slice (a time embedding, say).
    noise: Called with the step number (traced); returns the noise that a
      DDPM step adds. Not called for 'ddim'.
    method: 'ddpm' visits all T steps; 'ddim' (eta = 0) may visit fewer.
    num_steps: Number of steps for 'ddim'; all T if None.
    clip: The predicted x_0 is clipped to [-clip, clip].

  Raises:
    UserError: If `method` is unknown, or if DDPM is to skip steps.
  """
  total = schedule.num_steps
  num_steps = total if num_steps is None else num_steps
  if method not in SAMPLERS:
    raise UserError(f'sampler {method!r} is unknown; choose from {SAMPLERS}')
  if method == 'ddpm' and num_steps != total:
    raise UserError(
      f'ddpm visits all {total} steps, not {num_steps}; use ddim for fewer'
    )
  steps = process.sampling_steps(schedule, num_steps)
  coefficients = process.step_coefficients(schedule, steps)

  def body(x, inputs):
    c, t, step_input = inputs
    predicted = predict_noise(x, step_input).astype(jnp.float32)
    x_0 = c.to_start_x * x - c.to_start_noise * predicted
    x_0 = jnp.clip(x_0, -clip, clip)
    if method == 'ddpm':
      x = c.posterior_start * x_0 + c.posterior_current * x
      x = x + c.posterior_scale * noise(t)
    else:
      # The noise that leads from the clipped x_0 to x, not the predicted one.
      direction = (c.to_start_x * x - x_0) / c.to_start_noise
      x = c.signal_previous * x_0 + c.noise_previous * direction
    return x, None

  inputs = (
    coefficients,
    jnp.asarray(np.asarray(steps), jnp.int32),
    jax.tree.map(lambda leaf: leaf[steps], step_inputs),
  )
  x_0, _ = jax.lax.scan(body, start.astype(jnp.float32), inputs)
  return x_0
