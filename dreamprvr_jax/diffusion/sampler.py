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

PREDICTIONS = ('noise', 'start')


def sample(
  schedule: Schedule,
  predict: Callable[[Float[Array, '*x'], Any], Any],
  start: Float[Array, '*x'],
  *,
  step_inputs: Any,
  noise: Callable[[Any], Float[Array, '*x']] | None = None,
  prediction: str = 'noise',
  method: str = 'ddpm',
  num_steps: int | None = None,
  eta: float = 0.0,
  clip: float = 1.0,
  keep_states: bool = False,
) -> Float[Array, '*states']:
  """Returns x_0 after the reverse process from `start`, shaped like it, or all
  states; float32.

  Gradients flow through every step.

  Args:
    schedule: The schedule that the predictor was trained with.
    predict: Called with the state and one step's slice of `step_inputs`;
      returns the noise or x_0, shaped like the state.
    start: x_T.
    step_inputs: A tree of arrays of leading axis T, index = step number;
      each step sees its slice, such as a time embedding.
    noise: Called with the step number (traced); returns the noise that a
      step adds. Not called for 'ddim' with `eta` 0.
    prediction: 'noise', or 'start' if `predict` returns x_0 itself.
    method: 'ddpm' visits all T steps; 'ddim' may visit fewer.
    num_steps: Number of steps for 'ddim'; all T if None.
    eta: The share, 0 to 1, of DDPM's noise that steps of 'ddim' add.
    clip: The predicted x_0 is clipped to [-clip, clip].
    keep_states: Whether all states come back, stacked, `start` first.

  Raises:
    UserError: If `method` or `prediction` is unknown, if DDPM has to skip
      steps, if `eta` is out of its range, or if noise is needed and missing.
  """
  num_steps = schedule.num_steps if num_steps is None else num_steps
  _check(method, prediction, num_steps, schedule.num_steps, eta)
  steps = process.sampling_steps(schedule, num_steps)
  coefficients = process.step_coefficients(schedule, steps, eta)
  is_random = method == 'ddpm' or eta > 0
  if is_random and noise is None:
    raise UserError(f'{method} with eta {eta} adds noise; give `noise`')

  def body(x, inputs):
    c, t, step_input = inputs
    predicted = predict(x, step_input).astype(jnp.float32)
    x_0 = predicted
    if prediction == 'noise':
      x_0 = c.to_start_x * x - c.to_start_noise * predicted
    x_0 = jnp.clip(x_0, -clip, clip)
    x, scale = _STEPS[method](c, x, x_0)
    if is_random and noise is not None:
      x = x + scale * noise(t)
    return x, x if keep_states else None

  inputs = (
    coefficients,
    jnp.asarray(np.asarray(steps), jnp.int32),
    jax.tree.map(lambda leaf: leaf[steps], step_inputs),
  )
  start = start.astype(jnp.float32)
  x_0, states = jax.lax.scan(body, start, inputs)
  if states is None:
    return x_0
  return jnp.concatenate([start[None], states])


def _check(
  method: str, prediction: str, num_steps: int, total: int, eta: float
) -> None:
  for what, value, known in (
    ('sampler', method, SAMPLERS),
    ('prediction', prediction, PREDICTIONS),
  ):
    if value not in known:
      raise UserError(f'{what} {value!r} is unknown; choose from {known}')
  if method == 'ddpm' and num_steps != total:
    raise UserError(
      f'ddpm visits all {total} steps, not {num_steps}; use ddim for fewer'
    )
  if not 0 <= eta <= 1:
    raise UserError(f'eta of DDIM is {eta}; choose 0 to 1')


def _ddpm(
  c: process.StepCoefficients, x: Float[Array, '*x'], x_0: Float[Array, '*x']
) -> tuple[Float[Array, '*x'], Float[Array, '']]:
  """Returns the mean of the next state, and its standard deviation."""
  return c.posterior_start * x_0 + c.posterior_current * x, c.posterior_scale


def _ddim(
  c: process.StepCoefficients, x: Float[Array, '*x'], x_0: Float[Array, '*x']
) -> tuple[Float[Array, '*x'], Float[Array, '']]:
  """Returns the mean of the next state, and its standard deviation."""
  # The noise that leads from the clipped x_0 to x, not the predicted one.
  direction = (x - c.signal * x_0) / c.noise
  return c.signal_previous * x_0 + c.noise_previous * direction, c.ddim_scale


_STEPS = {'ddpm': _ddpm, 'ddim': _ddim}
SAMPLERS = tuple(_STEPS)
