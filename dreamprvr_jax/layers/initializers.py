"""Parameters and their initial values; docs/method.md, "Initial values"."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# Every linear and embedding weight, whatever its fan-in: no truncation.
WEIGHT = nn.initializers.normal(stddev=0.02)


def identity(
  key: Key[Array, ''], shape: tuple[int, int]
) -> Float[Array, 'd e']:
  """Returns the identity, whatever the key: a map that changes nothing yet."""
  del key
  return jnp.eye(*shape, dtype=jnp.float32)


def parameter(
  module: nn.Module, name: str, init: Callable[..., Any], *args: Any
) -> Any:
  """Returns what `module.param(name, init, *args)` does, sooner.

  Flax traces the initial values of parameters that exist, to compare the
  shapes, which was half of the time that tracing a model takes. The shapes of
  weights are checked when they are loaded.
  """
  if not module.is_initializing() and module.has_variable('params', name):
    return module.get_variable('params', name)
  return module.param(name, init, *args)
