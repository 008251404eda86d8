"""From stored features to tokens: input projection and position."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.dropout import Dropout
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.layers.normalization import layer_norm
from dreamprvr_jax.types import DType


class InputProjection(nn.Module):
  """ReLU(W drop(LN(x)) + b), from the feature width to the model's width."""

  width: int
  dropout: float
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, '... e'], *, train: bool
  ) -> Float[Array, '... d']:
    x = layer_norm('input_norm', self.dtype)(x)
    x = Dropout(self.dropout)(x, train=train)
    x = linear(self.width, self.dtype, 'linear')(x)
    return jax.nn.relu(x)


class PositionEmbedding(nn.Module):
  """LN(x + P[0..l-1]) and dropout; P is a trained table."""

  num_positions: int
  dropout: float
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b l d'], *, train: bool
  ) -> Float[Array, 'b l d']:
    length, width = x.shape[-2:]
    if length > self.num_positions:
      raise UserError(
        f'a sequence of {length} tokens is longer than the position table '
        f'of {self.num_positions}'
      )
    table = initializers.parameter(
      self, 'table', initializers.WEIGHT, (self.num_positions, width)
    )
    x = x + table[:length].astype(self.dtype)
    x = layer_norm('input_norm', self.dtype)(x)
    return Dropout(self.dropout)(x, train=train)


class TokenInput(nn.Module):
  """Input projection, then position: stored features to tokens."""

  width: int
  num_positions: int
  dropout: float
  dtype: DType = jnp.float32

  def setup(self):
    self.projection = InputProjection(self.width, self.dropout, self.dtype)
    self.position = PositionEmbedding(
      self.num_positions, self.dropout, self.dtype
    )

  def __call__(
    self, x: Float[Array, 'b l e'], *, train: bool
  ) -> Float[Array, 'b l d']:
    x = self.projection(x.astype(self.dtype), train=train)
    return self.position(x, train=train)
