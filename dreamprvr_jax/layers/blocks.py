"""Transformer blocks of the family (common notes, C5, block B)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.errors import UserError
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
  """Self attention and a feed-forward net of inner width 4d.

  With `num_queries` only the first q tokens are computed; the others are read
  and go no further.
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
    *,
    train: bool,
  ) -> Float[Array, 'b q d']:
    queries = x[:, : self.num_queries]
    update = Attention(
      self.num_heads, self.dropout, self.dtype, name='attention'
    )(queries, x, mask=mask, table=table, train=train)
    return FeedForward(
      4 * x.shape[-1], self.dropout, self.dtype, name='feed_forward'
    )(queries, update, train=train)


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


# How `ParallelBlocks` may compute its blocks.
EXECUTIONS = ('batched', 'unrolled', 'scan')


class ParallelBlocks(nn.Module):
  """Attention blocks side by side on the same tokens.

  The parameters carry the block as leading axis. `execution` says how the
  blocks are computed; results agree to float rounding:
    'batched': as one, with the block as an axis of every product.
    'unrolled': one after the other, each with arrays of its own.
    'scan': one after the other by one loop: the smallest program.
  """

  num_blocks: int
  num_heads: int
  dropout: float
  execution: str = 'batched'
  remat: bool = False
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b s d'],
    tables: Float[Array, 'a q s'],
    mask: Bool[Array, 'b 1 s'] | None,
    *,
    train: bool,
  ) -> Float[Array, 'a b q d']:
    block = AttentionBlock(
      self.num_heads,
      self.dropout,
      self.dtype,
      num_queries=tables.shape[1],
      parent=None,
    )
    params = self.param(
      'block',
      lambda key: jax.vmap(
        lambda key: block.init(key, x, tables[0], mask, train=False)['params']
      )(jax.random.split(key, self.num_blocks)),
    )
    keys = None
    if train and self.dropout:
      keys = jax.random.split(self.make_rng('dropout'), self.num_blocks)

    def run(part: Any) -> Any:
      params, table, key = part
      rngs = None if key is None else {'dropout': key}
      return block.apply(
        {'params': params}, x, table, mask, train=train, rngs=rngs
      )

    if self.remat:
      # In a loop XLA cannot merge the second computation with the first.
      run = jax.checkpoint(run, prevent_cse=self.execution != 'scan')
    parts = (params, tables, keys)
    if self.execution == 'scan':
      return jax.lax.map(run, parts)
    if self.execution == 'batched':
      return jax.vmap(run)(parts)
    if self.execution != 'unrolled':
      raise UserError(
        f'parallel_execution {self.execution!r} is unknown; choose from '
        f'{EXECUTIONS}'
      )
    return jnp.stack(
      [
        run(jax.tree.map(lambda leaf, i=i: leaf[i], parts))
        for i in range(self.num_blocks)
      ]
    )
