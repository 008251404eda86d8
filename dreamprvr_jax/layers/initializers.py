"""Initial values shared by all layers; docs/method.md, "Initial values"."""

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
