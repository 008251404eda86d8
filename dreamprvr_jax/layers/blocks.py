"""Transformer blocks of the family; docs/method.md, "Blocks"."""

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


class SelfAttention(nn.Module):
  """The common part of both blocks: tokens attend to each other.

  With `num_queries` only the first q tokens are updated; the others serve as
  keys and values.
  """

  num_heads: int
  dropout: float
  dtype: DType = jnp.float32
  num_queries: int | None = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b s d'],
    table: Float[Array, 'q s'] | None = None,
    mask: Bool[Array, '... s'] | None = None,
    key_bias: Float[Array, 'b s'] | None = None,
    *,
    train: bool,
  ) -> Float[Array, 'b q d']:
    queries = x[:, : self.num_queries]
    update = Attention(
      self.num_heads, self.dropout, self.dtype, name='attention'
    )(queries, x, mask=mask, table=table, key_bias=key_bias, train=train)
    return self.finish(queries, update, train=train)

  def finish(
    self,
    queries: Float[Array, 'b q d'],
    update: Float[Array, 'b q d'],
    *,
    train: bool,
  ) -> Float[Array, 'b q d']:
    """Returns the block's output from its tokens and their attention output."""
    raise TypeError(f'{type(self).__name__} does not define finish')


class AttentionBlock(SelfAttention):
  """Block B: self attention and a feed-forward net of inner width 4d."""

  def finish(self, queries, update, *, train):
    """See `FeedForward`."""
    return FeedForward(
      4 * queries.shape[-1], self.dropout, self.dtype, name='feed_forward'
    )(queries, update, train=train)


class ProjectedAttentionBlock(SelfAttention):
  """Block A: LN(x + drop(W_o attention(x, x) + b_o)), no feed-forward net."""

  def finish(self, queries, update, *, train):
    """Projects, adds and normalises."""
    update = linear(queries.shape[-1], self.dtype, 'output')(update)
    update = Dropout(self.dropout)(update, train=train)
    return layer_norm('output_norm', self.dtype)(queries + update)


class CrossAttentionBlock(nn.Module):
  """Queries attend to tokens; residual on the queries, inner width d."""

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
