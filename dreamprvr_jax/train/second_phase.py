"""A second phase of training: new parts learn alone at first, and their score
counts more and more.

Source: docs/method.md, "TRACE".
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from dreamprvr_jax.models.traced import SCHEDULE, SHARE

# The name of a parameter array: keys of the tree.
Path = tuple[Any, ...]


class HeldState(NamedTuple):
  """The updates so far, and the state of the optimiser."""

  count: Any  # () int32
  inner: Any


def held(
  optimizer: optax.GradientTransformation,
  is_new: Callable[[Path], bool],
  steps: int,
) -> optax.GradientTransformation:
  """Returns the optimiser, but at first only new parameters change.

  The gradients of the others are 0 for it during that time, so they enter
  neither its norms nor its moments.

  Args:
    optimizer: From gradients to updates.
    is_new: Whether a parameter, by its path in the tree, is new.
    steps: Updates during which the others are held; 0 for none.
  """
  if not steps:
    return optimizer

  def only_new(tree: Any, is_free: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
      lambda path, x: x if is_new(path) else jnp.where(is_free, x, 0), tree
    )

  def update(updates, state, params=None):
    is_free = state.count >= steps
    changes, inner = optimizer.update(
      only_new(updates, is_free), state.inner, params
    )
    return only_new(changes, is_free), HeldState(state.count + 1, inner)

  return optax.GradientTransformation(
    lambda params: HeldState(jnp.zeros((), jnp.int32), optimizer.init(params)),
    update,
  )


def share_after(
  step: Int[Array, ''], *, first: int, rise: int, steps_per_epoch: int
) -> Float[Array, '']:
  """Returns the share of its weight that an added score has after `step`
  updates: min(1, (t - first) / rise), not below 0, after epoch t.

  Args:
    step: Updates made.
    first: Epoch, from 0, after which the share begins to rise.
    rise: Epochs until it is 1; 0 for at once.
    steps_per_epoch: Updates of an epoch.
  """
  beyond = step - (1 + first) * steps_per_epoch
  if not rise:
    return (beyond >= 0).astype(jnp.float32)
  return jnp.clip(beyond / (rise * steps_per_epoch), 0.0, 1.0)


def rising_share(
  *, first: int, rise: int, steps_per_epoch: int
) -> Callable[[Any, Int[Array, '']], Any]:
  """Returns the function from (constants, updates made) to the constants of a
  model with `share_after` in them; see `step.update`."""

  def constants(former: Any, step: Int[Array, '']) -> Any:
    share = share_after(
      step, first=first, rise=rise, steps_per_epoch=steps_per_epoch
    )
    return {**former, SCHEDULE: {**former[SCHEDULE], SHARE: share}}

  return constants
