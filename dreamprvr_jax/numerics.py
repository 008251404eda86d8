"""Norms that layers, scores and losses share."""

import jax.numpy as jnp
from jaxtyping import Array, Float

NORM_FLOOR = 1e-12


def inverse_norm(x: Float[Array, '... d']) -> Float[Array, '... 1']:
  """Returns 1 / max(|x|, 1e-12) over the last axis, in float32.

  The square is floored before the root, so that the gradient at x = 0 is
  finite: padded tokens are exactly zero and the mask makes their gradient
  zero only if it is a number.
  """
  square = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
  return jnp.reciprocal(jnp.sqrt(jnp.maximum(square, NORM_FLOOR**2)))


def l2_normalize(x: Float[Array, '... d']) -> Float[Array, '... d']:
  """Returns x / max(|x|, 1e-12) over the last axis, in x's dtype."""
  return (x * inverse_norm(x)).astype(x.dtype)
