"""Parallel blocks on the same tokens: batched, unrolled or in a loop."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.blocks import AttentionBlock
from dreamprvr_jax.types import DType

# How `ParallelBlocks` may compute its blocks.
EXECUTIONS = ('auto', 'batched', 'unrolled', 'scan')


class ParallelBlocks(nn.Module):
  """Attention blocks in parallel on the same tokens.

  The leading axis of all parameters is the block. `make_block` takes heads,
  dropout, dtype and num_queries, as `AttentionBlock` does. `execution` is how
  the blocks are computed; results agree to float rounding:
    'batched': at once, with the block as an axis of every product.
    'unrolled': one after the other, each with its own arrays.
    'scan': one after the other in one loop, the smallest program.
    'auto': 'unrolled' on a CPU, else 'batched'.
  """

  num_blocks: int
  num_heads: int
  dropout: float
  execution: str
  remat: bool
  dtype: DType
  make_block: Callable[..., nn.Module] = AttentionBlock

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b s d'],
    tables: Float[Array, 'a q s'],
    mask: Bool[Array, 'b 1 s'] | None,
    key_bias: Float[Array, 'b s'] | None = None,
    *,
    train: bool,
  ) -> Float[Array, 'a b q d']:
    block = self.make_block(
      self.num_heads,
      self.dropout,
      self.dtype,
      num_queries=tables.shape[1],
      parent=None,
    )
    params = initializers.parameter(
      self,
      'block',
      lambda key: jax.vmap(
        lambda key: block.init(key, x, tables[0], mask, key_bias, train=False)[
          'params'
        ]
      )(jax.random.split(key, self.num_blocks)),
    )
    keys = None
    if train and self.dropout:
      keys = jax.random.split(self.make_rng('dropout'), self.num_blocks)

    def run(part: Any) -> Any:
      params, table, key = part
      rngs = None if key is None else {'dropout': key}
      return block.apply(
        {'params': params}, x, table, mask, key_bias, train=train, rngs=rngs
      )

    if self.remat:
      # In a loop XLA cannot merge the second computation with the first.
      run = jax.checkpoint(run, prevent_cse=self.execution != 'scan')
    parts = (params, tables, keys)
    execution = self.execution
    if execution not in EXECUTIONS:
      raise UserError(
        f'parallel_execution {self.execution!r} is unknown; choose from '
        f'{EXECUTIONS}'
      )
    if self.is_initializing():
      # Nothing reads the output: the way that is traced soonest.
      execution = 'scan'
    elif execution == 'auto':
      execution = 'unrolled' if jax.default_backend() == 'cpu' else 'batched'
    if execution == 'scan':
      return jax.lax.map(run, parts)
    if execution == 'batched':
      return jax.vmap(run)(parts)
    return jnp.stack(
      [
        run(jax.tree.map(lambda leaf, i=i: leaf[i], parts))
        for i in range(self.num_blocks)
      ]
    )
