"""Norms and mask values that layers, scores and losses share.

All mask values are finite, so that a row without any real entry gives numbers
rather than NaN; the caller's mask removes them. Next to a real entry, a masked
one has a weight of exactly 0 in float32.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

NORM_FLOOR = 1e-12

# What `with_norm` knows.
FEATURE_NORMS = ('raw', 'unit', 'scaled')

# Replaces the score of a masked entry in softmax, log-sum-exp, maxima and
# sorts. The released programs use -1e9, -1e10, -9e15 and -1e18 in such places,
# which gives the same weights: 0, or equal ones if nothing is real.
MASKED = -1e30
# Added to the logit of a masked key in attention, as released (BERT's value).
# Being added, it is part of the result where a row has no real key.
ATTENTION_PENALTY = -1e4
# The same in the temporal transformer, as released (CLIP4Clip's value).
TEMPORAL_PENALTY = -1e6


def inverse_norm(x: Float[Array, '... d']) -> Float[Array, '... 1']:
  """Returns 1 / max(|x|, 1e-12) over the last axis, in float32.

  The square is floored before the root, so that the gradient at x = 0 is
  finite. Padded tokens are exactly zero; a mask turns their gradient into 0
  only if it is a number.
  """
  square = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
  return jnp.reciprocal(jnp.sqrt(jnp.maximum(square, NORM_FLOOR**2)))


def l2_normalize(x: Float[Array, '... d']) -> Float[Array, '... d']:
  """Returns x / max(|x|, 1e-12) over the last axis, in x's dtype."""
  return (x * inverse_norm(x)).astype(x.dtype)


def with_norm(
  x: Float[Array, '... d'], norm: str, scale: float
) -> Float[Array, '... d']:
  """Returns x as it is ('raw'), or over the last axis at norm 1 ('unit') or
  `scale` ('scaled'), in x's dtype; rows of zeros stay zero."""
  if norm == 'raw':
    return x
  unit = l2_normalize(x)
  return unit if norm == 'unit' else (scale * unit).astype(x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def largest(x: Float[Array, '...'], axis: int = -1) -> Float[Array, '...']:
  """Returns the maxima over an axis; the first maximum has the gradient.

  JAX's gradient of a maximum goes to the entries that equal it, divided by
  their number. XLA may compute `x` twice, once for each of the two, and round
  it differently; then no entry is equal, and the gradient is 0/0. So this is
  the maximum of all computed values that have a gradient.
  """
  return jnp.max(x, axis=axis)


@largest.defjvp
def _largest_jvp(
  axis: int, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Array, Array]:
  (x,), (tangent,) = primals, tangents
  index = jnp.argmax(x, axis=axis, keepdims=True)
  positions = jax.lax.broadcasted_iota(index.dtype, x.shape, axis % x.ndim)
  of_largest = jnp.where(positions == index, tangent, 0)
  return largest(x, axis), jnp.sum(of_largest, axis=axis)


def last_real(
  rows: Float[Array, 'n l e'], mask: Bool[Array, 'n l']
) -> Float[Array, 'n e']:
  """Returns the last real row of each matrix, the first if none is real: of
  CLIP's words the end of text, which is the vector of the sentence."""
  last = jnp.maximum(jnp.sum(mask, axis=1) - 1, 0)
  return jnp.take_along_axis(rows, last[:, None, None], axis=1)[:, 0]
