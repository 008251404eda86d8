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
  """Softmax over blocks of logits that a mean token reads from each block.

  Source: DreamPRVR, released program (specification, section 5.3). The mean
  runs over all positions, padded ones included.
  """

  num_heads: int
  dropout: float
  temperature: float  # the released option `sft_factor`
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    stacks: Float[Array, 'a b s d'],
    *,
    mask: Bool[Array, 'b s'] | None = None,
    train: bool,
  ) -> Float[Array, 'b s d']:
    length, width = stacks.shape[-2:]
    mean_token = jnp.mean(stacks, axis=(0, 2), dtype=jnp.float32)
    readout = TokenReadout(
      self.num_heads, self.dropout, self.dtype, name='readout'
    )(mean_token.astype(self.dtype), stacks, mask=mask, train=train)
    hidden = jax.nn.relu(linear(width, self.dtype, 'hidden')(readout))
    hidden = Dropout(self.dropout)(hidden, train=train)
    logits = linear(length, self.dtype, 'logits')(hidden).astype(jnp.float32)
    weights = jax.nn.softmax(logits / self.temperature, axis=0)
    return jnp.einsum('abs,absd->bsd', weights.astype(self.dtype), stacks)
