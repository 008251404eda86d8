"""Attention in the Lorentz model of hyperbolic space (HLFormer).

Source: docs/method.md, "Lorentz block". Points are (time, space) with
<y, y> = -1, curvature -1. Where a guard is active, gradients are those of the
released program, which differ from plain differentiation. All is computed in
float32, whatever the compute dtype.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.attention import head_width
from dreamprvr_jax.layers.blocks import FeedForward
from dreamprvr_jax.layers.dropout import Dropout
from dreamprvr_jax.layers.projection import InputProjection
from dreamprvr_jax.numerics import MASKED
from dreamprvr_jax.types import DType

# What the Gaussian window of a block multiplies.
WINDOWS = ('distances', 'weights')
# Slope of the released guards where they are active.
_LEAK = 1e-8
# Bound of a tangent vector's length in `curved_exponential`.
_LONGEST = math.asinh(2**15)


@jax.custom_jvp
def _leaky_floor(x: Float[Array, '...'], least: float) -> Float[Array, '...']:
  """max(x, least) whose slope is 1e-8 where the floor is active."""
  return jnp.maximum(x, least)


@_leaky_floor.defjvp
def _leaky_floor_jvp(primals, tangents):
  x, least = primals
  slope = jnp.where(x < least, _LEAK, 1.0)
  return jnp.maximum(x, least), slope * tangents[0]


@jax.custom_jvp
def _arcosh(x: Float[Array, '...']) -> Float[Array, '...']:
  """arcosh with its argument kept above 1; the slope ignores the guard."""
  x = jnp.maximum(x, jnp.float32(1 + 1e-8))
  return jnp.log(x + jnp.sqrt(jnp.maximum(x * x - 1, 1e-9)))


@_arcosh.defjvp
def _arcosh_jvp(primals, tangents):
  (x,), (tangent,) = primals, tangents
  kept = jnp.maximum(x, jnp.float32(1 + 1e-8))
  slope = 1 / jnp.sqrt(jnp.maximum(kept * kept - 1, 1e-9))
  return _arcosh(x), slope * tangent


def curved_exponential(
  x: Float[Array, '... d'], curvature: Float[Array, '']
) -> Float[Array, '... d']:
  """Returns the space coordinates of the exponential map of x at the origin of
  the space of curvature -c."""
  square = jnp.sum(x * x, -1, keepdims=True)
  # Selected on the way in and out: the root's slope at 0 is infinite.
  safe = jnp.where(square > 0, square, 1.0)
  r = jnp.sqrt(curvature) * jnp.where(square > 0, jnp.sqrt(safe), 0.0)
  bounded = jnp.clip(r, 1e-8, _LONGEST)
  return jnp.sinh(bounded) * x / jnp.maximum(r, 1e-8)


def origin_exponential(u: Float[Array, '... m']) -> Float[Array, '... p']:
  """Returns the exponential map of tangent vectors u at the origin: points
  (time, space), p = m + 1. |u| counts as 10 at most."""
  r = jnp.sqrt(_leaky_floor(jnp.sum(u * u, -1, keepdims=True), 1e-9))
  # Slope 0 above 10.
  capped = jnp.where(r > 10, 10.0, r)
  space = jnp.sinh(capped) * u / r
  time = jnp.sqrt(1 + jnp.sum(space * space, -1, keepdims=True))
  return jnp.concatenate([time, space], axis=-1)


def origin_logarithm(x: Float[Array, '... p']) -> Float[Array, '... m']:
  """Returns the tangent vectors at the origin, without their time.

  The length comes from the time alone, even for points off the hyperboloid.
  """
  time = x[..., :1]
  return _arcosh(time) / jnp.sqrt(time * time - 1) * x[..., 1:]


def inner_products(
  a: Float[Array, '... q m'], b: Float[Array, '... s m']
) -> Float[Array, '... q s']:
  """Returns <a, b> = -a_0 b_0 + the sum of the others."""
  sign = jnp.ones(a.shape[-1]).at[0].set(-1)
  return jnp.einsum('...qm,...sm->...qs', a * sign, b)


class LorentzLinear(nn.Module):
  """A linear map without bias to one point per head."""

  num_heads: int
  dropout: float

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b s p'], *, train: bool
  ) -> Float[Array, 'b h s k']:
    size = x.shape[-1]
    shape = (size, self.num_heads, head_width(size, self.num_heads))
    kernel = initializers.parameter(self, 'kernel', initializers.WEIGHT, shape)
    scale = initializers.parameter(
      self, 'scale', nn.initializers.constant(2.3), ()
    )
    x = Dropout(self.dropout)(x, train=train)
    y = jnp.einsum('bsp,phk->bhsk', x, kernel)
    time = jax.nn.sigmoid(y[..., :1]) * jnp.exp(scale) + 1.1
    square = jnp.sum(jnp.square(y[..., 1:]), -1, keepdims=True)
    # Zero if dropout left nothing of a narrow x: then there is no direction.
    square = jnp.where(square > 0, square, 1.0)
    space = y[..., 1:] * jnp.sqrt((time * time - 1) / square)
    return jnp.concatenate([time, space], axis=-1)


class LorentzAttention(nn.Module):
  """Attention by Lorentzian distance.

  Logits are negative distances, so the released window, which multiplies them,
  draws far keys nearer. With `window` 'weights' it multiplies the weights
  instead, and far keys fade.
  """

  num_heads: int
  dropout: float
  window: str

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b s p'],
    table: Float[Array, 'q s'] | None,
    mask: Bool[Array, 'b 1 s'] | None,
    *,
    num_queries: int | None = None,
    train: bool,
  ) -> Float[Array, 'b q p']:
    size = x.shape[-1]
    scale = initializers.parameter(
      self, 'scale', nn.initializers.constant(math.sqrt(size)), (1,)
    )
    bias = initializers.parameter(self, 'bias', nn.initializers.zeros, ())
    project = lambda name, x: LorentzLinear(
      self.num_heads, self.dropout, name=name
    )(x, train=train)
    keys, values = project('key', x), project('value', x)
    queries = project('query', x[:, :num_queries])
    logits = (2 + 2 * inner_products(queries, keys)) / scale + bias
    if table is not None and self.window == 'distances':
      logits = logits * table
    elif table is not None:
      # The floor keeps the logarithm finite.
      logits = logits + jnp.log(jnp.maximum(table, 1e-30))
    if mask is not None:
      logits = jnp.where(mask[:, None], logits, MASKED)
    weights = jax.nn.softmax(logits, axis=-1)
    mixed = weights @ values
    sign = jnp.ones(mixed.shape[-1]).at[0].set(-1)
    norm = jnp.abs(jnp.sum(sign * mixed * mixed, -1, keepdims=True))
    mixed = mixed / jnp.sqrt(jnp.maximum(norm, 1e-8))
    mixed = jnp.swapaxes(mixed, 1, 2)
    return mixed.reshape(*mixed.shape[:2], size)


class LorentzBlock(nn.Module):
  """Block B whose attention works in the Lorentz model."""

  num_heads: int
  dropout: float
  dtype: DType
  num_queries: int | None = None
  dim: int = dataclasses.field(kw_only=True)
  window: str = dataclasses.field(kw_only=True)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b s d'],
    table: Float[Array, 'q s'] | None = None,
    mask: Bool[Array, 'b 1 s'] | None = None,
    key_bias: None = None,
    *,
    train: bool,
  ) -> Float[Array, 'b q d']:
    del key_bias
    if self.window not in WINDOWS:
      raise UserError(
        f'lorentz_window {self.window!r} is unknown; choose from {WINDOWS}'
      )
    width = x.shape[-1]
    project = lambda size, name: InputProjection(
      size, self.dropout, jnp.float32, name=name
    )
    start = -0.5 * math.log(self.dim)
    exponent = initializers.parameter(
      self, 'exponent', nn.initializers.constant(start), ()
    )
    # The released program overwrites the parameter with min(parameter, 0) in
    # every pass: the gradient is the one at that value.
    exponent = exponent + jax.lax.stop_gradient(
      jnp.minimum(exponent, 0) - exponent
    )
    u = project(self.dim, 'input_projection')(
      x.astype(jnp.float32), train=train
    )
    points = origin_exponential(u * jnp.exp(exponent))
    points = LorentzAttention(
      self.num_heads, self.dropout, self.window, name='attention'
    )(points, table, mask, num_queries=self.num_queries, train=train)
    update = origin_logarithm(points) / jnp.exp(exponent)
    update = project(width, 'output_projection')(update, train=train)
    return FeedForward(
      4 * width, self.dropout, self.dtype, name='feed_forward'
    )(x[:, : self.num_queries], update.astype(self.dtype), train=train)
