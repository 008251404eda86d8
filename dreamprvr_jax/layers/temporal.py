"""The temporal transformer of CLIP-based retrieval (CLIP4Clip's seqTransf)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.attention import head_width
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.numerics import TEMPORAL_PENALTY
from dreamprvr_jax.types import DType


def quick_gelu(x: Float[Array, '...']) -> Float[Array, '...']:
  """Returns x sigmoid(1.702 x), CLIP's activation."""
  return x * jax.nn.sigmoid(1.702 * x)


class TemporalBlock(nn.Module):
  """A pre-norm block: attention, then a net four times as wide; no dropout.

  The three input projections are one map, as in CLIP.
  """

  num_heads: int
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b f d'], mask: Bool[Array, 'b f']
  ) -> Float[Array, 'b f d']:
    width = x.shape[-1]
    depth = head_width(width, self.num_heads)
    norm = lambda name: nn.LayerNorm(
      epsilon=1e-12, dtype=self.dtype, use_fast_variance=False, name=name
    )
    inputs = linear(3 * width, self.dtype, 'inputs')(norm('norm1')(x))
    q, k, v = jnp.split(
      inputs.reshape(*x.shape[:2], 3 * self.num_heads, depth), 3, axis=2
    )
    logits = jnp.einsum(
      'bqhk,bshk->bhqs',
      q * depth**-0.5,
      k,
      preferred_element_type=jnp.float32,
    )
    logits = logits + jnp.where(mask, 0.0, TEMPORAL_PENALTY)[:, None, None]
    weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
    mixed = jnp.einsum('bhqs,bshk->bqhk', weights, v).reshape(x.shape)
    x = x + linear(width, self.dtype, 'output')(mixed)
    inner = linear(4 * width, self.dtype, 'inner')(norm('norm2')(x))
    return x + linear(width, self.dtype, 'outer')(quick_gelu(inner))


class TemporalTransformer(nn.Module):
  """Blocks over frames with learned positions, added to the frames.

  Padded frames are masked as keys; their own outputs have no meaning.
  Source: docs/method.md, "Temporal transformer".
  """

  num_layers: int
  num_heads: int
  num_positions: int
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self, frames: Float[Array, 'b f d'], mask: Bool[Array, 'b f']
  ) -> Float[Array, 'b f d']:
    shape = (self.num_positions, frames.shape[-1])
    table = initializers.parameter(
      self, 'positions', initializers.WEIGHT, shape
    )
    x = frames + table[: frames.shape[1]].astype(self.dtype)
    for i in range(self.num_layers):
      block = TemporalBlock(self.num_heads, self.dtype, name=f'block_{i}')
      x = block(x, mask)
    return x + frames
