"""Transformer blocks of the family (common notes, C5, block B)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.layers.attention import Attention, SingleQueryAttention
from dreamprvr_jax.layers.dropout import Dropout
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.layers.normalization import layer_norm
from dreamprvr_jax.types import DType


class FeedForward(nn.Module):
  """h = LN1(x + drop(update)); LN2(h + drop(W2 drop(ReLU(W1 h))))."""

  inner: int
  dropout: float
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, '... d'],
    update: Float[Array, '... d'],
    *,
    train: bool,
  ) -> Float[Array, '... d']:
    drop = lambda x: Dropout(self.dropout)(x, train=train)
    h = layer_norm('norm1', self.dtype)(x + drop(update))
    y = jax.nn.relu(linear(self.inner, self.dtype, 'linear1')(h))
    y = linear(x.shape[-1], self.dtype, 'linear2')(drop(y))
    return layer_norm('norm2', self.dtype)(h + drop(y))


class AttentionBlock(nn.Module):
  """Self attention and a feed-forward net of inner width 4d."""

  num_heads: int
  dropout: float
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b s d'],
    table: Float[Array, 's s'] | None = None,
    mask: Bool[Array, '... s'] | None = None,
    *,
    train: bool,
  ) -> Float[Array, 'b s d']:
    update = Attention(
      self.num_heads, self.dropout, self.dtype, name='attention'
    )(x, x, mask=mask, table=table, train=train)
    return FeedForward(
      4 * x.shape[-1], self.dropout, self.dtype, name='feed_forward'
    )(x, update, train=train)


class CrossAttentionBlock(nn.Module):
  """Queries attend tokens; residual on the queries, inner width d."""

  num_heads: int
  dropout: float
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    queries: Float[Array, 'b q d'],
    tokens: Float[Array, 'b s d'],
    *,
    train: bool,
  ) -> Float[Array, 'b q d']:
    update = Attention(
      self.num_heads, self.dropout, self.dtype, name='attention'
    )(queries, tokens, train=train)
    return FeedForward(
      queries.shape[-1], self.dropout, self.dtype, name='feed_forward'
    )(queries, update, train=train)


class TokenReadout(nn.Module):
  """`CrossAttentionBlock` for one query token over several token stacks."""

  num_heads: int
  dropout: float
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    query: Float[Array, 'b d'],
    stacks: Float[Array, 'a b s d'],
    *,
    mask: Bool[Array, 'b s'] | None = None,
    train: bool,
  ) -> Float[Array, 'a b d']:
    update = SingleQueryAttention(
      self.num_heads, self.dropout, self.dtype, name='attention'
    )(query, stacks, mask=mask, train=train)
    return FeedForward(
      query.shape[-1], self.dropout, self.dtype, name='feed_forward'
    )(jnp.broadcast_to(query, update.shape), update, train=train)


class ParallelBlocks(nn.Module):
  """Attention blocks side by side on the same tokens, as one batched product.

  The parameters carry the block as leading axis.
  """

  num_blocks: int
  num_heads: int
  dropout: float
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b s d'],
    tables: Float[Array, 'a s s'],
    mask: Bool[Array, 'b s s'] | None,
    *,
    train: bool,
  ) -> Float[Array, 'a b s d']:
    axes: Any = (None, 0, None)  # its annotation says int
    stacked = nn.vmap(
      lambda block, x, table, mask: block(x, table, mask, train=train),
      in_axes=axes,
      out_axes=0,
      axis_size=self.num_blocks,
      variable_axes={'params': 0},
      split_rngs={'params': True, 'dropout': True},
    )
    block = AttentionBlock(
      self.num_heads, self.dropout, self.dtype, name='block'
    )
    return stacked(block, x, tables, mask)
