"""BERT's Adam, as the released programs use it.

Source: docs/method.md, "BERT's Adam".
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Path = tuple[str, ...]


# The same object for the same numbers: programs are kept by their optimiser.
@functools.lru_cache(maxsize=16)
def warmup_linear(
  peak: float, total_steps: int, warmup: float = 0.01
) -> optax.Schedule:
  """Returns the schedule of the learning rate by update number, from 0.

  With x = k / total_steps: peak * x / warmup below `warmup`, then
  peak * max(1 - x, 0) / (1 - warmup). The first update has rate 0.
  """

  def schedule(count):
    x = count / total_steps
    rising = x / warmup if warmup else jnp.ones_like(x)
    falling = jnp.maximum(1 - x, 0.0) / (1 - warmup)
    return peak * jnp.where(x < warmup, rising, falling)

  return schedule


@functools.lru_cache(maxsize=16)
def warmup_cosine(
  peak: float, total_steps: int, warmup: float = 0.1
) -> optax.Schedule:
  """Returns DiffusionRet's schedule of the learning rate, from 0.

  With x = k / total_steps: peak * x / warmup below `warmup`, then
  peak * (1 + cos(pi x)) / 2, which begins a little below the peak.
  """

  def schedule(count):
    x = count / total_steps
    rising = x / warmup if warmup else jnp.ones_like(x)
    return peak * jnp.where(x < warmup, rising, (1 + jnp.cos(jnp.pi * x)) / 2)

  return schedule


def _names(path: Any) -> Path:
  return tuple(str(getattr(key, 'key', key)) for key in path)


def is_stacked(path: Path) -> bool:
  """Returns whether an array stacks the tensors of parallel blocks."""
  return not {'parallel', 'lorentz_parallel'}.isdisjoint(path)


def is_decayed(path: Path) -> bool:
  """Returns whether weight decay applies to a parameter.

  The released programs spare tensors whose name contains `bias` or
  `LayerNorm.weight`. Only the norms of inputs and positions, and those behind
  an output projection, are called that; the scales of all others are decayed.
  """
  if 'bias' in path[-1]:
    return False
  return path[-2:] not in (('input_norm', 'scale'), ('output_norm', 'scale'))


def clip_each_tensor(
  max_norm: float = 1.0, epsilon: float = 1e-6
) -> optax.GradientTransformation:
  """Scales each tensor's gradient by min(1, max_norm / (norm + epsilon)).

  There is no global norm. Arrays that stack parallel blocks are clipped
  block by block, as the separate tensors they stand for.
  """

  def clip(path, gradient):
    first = 1 if is_stacked(_names(path)) else 0
    axes = tuple(range(first, gradient.ndim))
    square = jnp.sum(jnp.square(gradient), axis=axes, keepdims=True)
    factor = jnp.minimum(1.0, max_norm / (jnp.sqrt(square) + epsilon))
    return gradient * factor

  def update(updates, state, params=None):
    del params
    return jax.tree_util.tree_map_with_path(clip, updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class MomentsState(NamedTuple):
  """First and second moments of the gradients, shaped like the parameters."""

  first: Any
  second: Any


def scale_by_moments(
  b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-6
) -> optax.GradientTransformation:
  """Returns m / (sqrt(v) + epsilon), without bias correction."""

  def init(params):
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    return MomentsState(first=zeros(), second=zeros())

  def update(updates, state, params=None):
    del params
    first = jax.tree.map(
      lambda m, g: b1 * m + (1 - b1) * g, state.first, updates
    )
    second = jax.tree.map(
      lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.second, updates
    )
    scaled = jax.tree.map(
      lambda m, v: m / (jnp.sqrt(v) + epsilon), first, second
    )
    return scaled, MomentsState(first=first, second=second)

  return optax.GradientTransformation(init, update)


@functools.lru_cache(maxsize=16)
def bert_adam(
  learning_rate: optax.Schedule,
  *,
  weight_decay: float = 0.01,
  max_norm: float = 1.0,
  global_norm: float = 0.0,
  b2: float = 0.999,
) -> optax.GradientTransformation:
  """Returns the optimiser: clip each tensor, moments, decay, rate.

  Args:
    learning_rate: Rate by update number, from 0.
    weight_decay: Added to the direction as weight_decay * p.
    max_norm: Norm that each tensor's gradient is clipped to.
    global_norm: Norm that all gradients together are clipped to before; 0 for
      none.
    b2: Decay of the second moments.
  """
  decayed = lambda params: jax.tree_util.tree_map_with_path(
    lambda path, _: is_decayed(_names(path)), params
  )
  together = [optax.clip_by_global_norm(global_norm)] if global_norm else []
  return optax.chain(
    *together,
    clip_each_tensor(max_norm),
    scale_by_moments(b2=b2),
    optax.add_decayed_weights(weight_decay, mask=decayed),
    optax.scale_by_learning_rate(learning_rate),
  )
