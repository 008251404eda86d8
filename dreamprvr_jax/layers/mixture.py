"""Merging parallel blocks: one learned weight per position and block."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.layers.blocks import TokenReadout
from dreamprvr_jax.layers.dropout import Dropout
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.types import DType


class LearnedAggregation(nn.Module):
  """Softmax over blocks of logits that one token reads from each block.

  The token is learned (GMMFormer v2), or the mean over blocks and all
  positions, padded ones included. Source: docs/method.md, "Consolidation
  layer".
  """

  num_heads: int
  dropout: float
  temperature: float  # the released option `sft_factor`
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    stacks: Float[Array, 'a b s d'],
    token: Float[Array, ' d'] | None = None,
    *,
    mask: Bool[Array, 'b s'] | None = None,
    train: bool,
  ) -> Float[Array, 'b s d']:
    videos, length, width = stacks.shape[1:]
    if token is None:
      query = jnp.mean(stacks, axis=(0, 2), dtype=jnp.float32)
    else:
      query = jnp.broadcast_to(token, (videos, width))
    readout = TokenReadout(
      self.num_heads, self.dropout, self.dtype, name='readout'
    )(query.astype(self.dtype), stacks, mask=mask, train=train)
    hidden = jax.nn.relu(linear(width, self.dtype, 'hidden')(readout))
    hidden = Dropout(self.dropout)(hidden, train=train)
    logits = linear(length, self.dtype, 'logits')(hidden).astype(jnp.float32)
    weights = jax.nn.softmax(logits / self.temperature, axis=0)
    return jnp.einsum('abs,absd->bsd', weights.astype(self.dtype), stacks)
