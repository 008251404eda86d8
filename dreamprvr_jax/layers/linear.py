"""Linear maps; docs/method.md, "Initial values"."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamprvr_jax.layers import initializers
from dreamprvr_jax.types import DType


class Linear(nn.Module):
  """x W + b over the last axis, to one axis or several.

  Parameters are those of `nn.DenseGeneral`: 'kernel' (d, *features) and
  'bias' (*features). The last two row axes, videos and tokens, are one axis in
  the product: over two of them, XLA's CPU compiler computes the kernel's
  gradient from a transposed copy, at half the speed. Axes before them (steps,
  say) stay: if they were merged, devices that share the videos would have to
  gather them all.
  """

  features: tuple[int, ...]
  dtype: DType = jnp.float32
  use_bias: bool = True
  start: Callable[..., Array] = initializers.WEIGHT

  @nn.compact
  def __call__(self, x: Float[Array, '*rows d']) -> Float[Array, '*out']:
    width = x.shape[-1]
    kernel = initializers.parameter(
      self, 'kernel', self.start, (width, *self.features)
    )
    size = math.prod(self.features)
    leading = x.shape[:-3]
    rows = x.astype(self.dtype).reshape(*leading, -1, width)
    y = rows @ kernel.astype(self.dtype).reshape(width, size)
    if self.use_bias:
      bias = initializers.parameter(
        self, 'bias', nn.initializers.zeros, self.features
      )
      y = y + bias.astype(self.dtype).reshape(size)
    return y.reshape(*x.shape[:-1], *self.features)


def linear(
  features: int,
  dtype: DType,
  name: str | None = None,
  *,
  use_bias: bool = True,
) -> Linear:
  """Returns a linear map to `features`: weights N(0, 0.02), biases 0."""
  return Linear((features,), dtype, use_bias, name=name)
