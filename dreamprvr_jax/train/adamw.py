"""AdamW with a cosine, as TRACE's second phase uses it.

Source: docs/method.md, "TRACE".
"""

from typing import Any

import jax
import optax

_B1, _B2, _EPSILON = 0.9, 0.98, 1e-8
# Share of the peak rate at the end.
_FLOOR = 0.1


def warmup_to_floor(
  peak: float, total_steps: int, warmup: float
) -> optax.Schedule:
  """Returns the schedule of the learning rate by update number, from 0.

  It rises linearly over the share `warmup` of all steps, then falls along a
  cosine to a tenth of the peak.
  """
  rising = min(round(warmup * total_steps), total_steps - 1)
  return optax.warmup_cosine_decay_schedule(
    0.0 if rising else peak, peak, rising, total_steps, _FLOOR * peak
  )


def is_decayed(path: tuple[Any, ...]) -> bool:
  """Returns whether weight decay applies: not to biases and norms."""
  name = jax.tree_util.keystr(path[-1:], simple=True)
  return 'bias' not in name and name != 'scale'


def adamw(
  learning_rate: optax.Schedule, *, weight_decay: float, max_norm: float
) -> optax.GradientTransformation:
  """Returns the optimiser.

  Args:
    learning_rate: Rate by update number, from 0.
    weight_decay: Added to the direction as weight_decay * p.
    max_norm: Norm that all gradients together are clipped to.
  """
  decayed = lambda params: jax.tree_util.tree_map_with_path(
    lambda path, _: is_decayed(path), params
  )
  return optax.chain(
    optax.clip_by_global_norm(max_norm),
    optax.scale_by_adam(_B1, _B2, _EPSILON),
    optax.add_decayed_weights(weight_decay, mask=decayed),
    optax.scale_by_learning_rate(learning_rate),
  )
