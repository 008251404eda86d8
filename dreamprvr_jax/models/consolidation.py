"""Parallel Gaussian blocks over a branch's tokens, then one learned mixture."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.layers.gaussian import block_tables
from dreamprvr_jax.layers.lorentz import LorentzBlock
from dreamprvr_jax.layers.mixture import LearnedAggregation
from dreamprvr_jax.layers.parallel_blocks import ParallelBlocks
from dreamprvr_jax.layers.projection import InputProjection
from dreamprvr_jax.types import DType


class ConsolidationLayer(nn.Module):
  """The encoder of a branch since GMMFormer v2.

  Source: docs/method.md, "Consolidation layer" (TC). HLFormer adds blocks in
  the Lorentz model (`lorentz_widths`), MSC the sizes of merged clips
  (`key_bias`), DreamPRVR registers (its "register-augmented block"). The
  video's tokens read the registers, which are then dropped: registers are keys
  and values only, and are no queries.
  """

  widths: tuple[float, ...]
  num_heads: int
  input_dropout: float
  dropout: float
  temperature: float
  execution: str
  remat: bool
  dtype: DType
  # Without widths there are no Lorentz blocks, and no use for the other two.
  lorentz_widths: tuple[float, ...] = ()
  lorentz_dim: int = 0
  lorentz_window: str = ''

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, 'b s d'],
    mask: Bool[Array, 'b s'] | None,
    *,
    registers: Float[Array, 'b r d'] | None = None,
    token: Float[Array, ' d'] | None = None,
    key_bias: Float[Array, 'b s'] | None = None,
    train: bool,
  ) -> Float[Array, 'b s d']:
    """Returns the encoded tokens, zero where `mask` is False.

    Args:
      tokens: Clip or frame tokens.
      mask: Real tokens; None if all of them are.
      registers: Further tokens to attend to, or None.
      token: The token that queries each block for its weight; None for the
        mean token.
      key_bias: Added to the logits of the Euclidean blocks, per key.
      train: Whether dropout is on.
    """
    length, width = tokens.shape[1:]
    count = 0 if registers is None else registers.shape[1]
    x = tokens
    if registers is not None:
      projected = InputProjection(
        width, self.input_dropout, self.dtype, name='register_projection'
      )(registers.astype(self.dtype), train=train)
      x = jnp.concatenate([tokens, projected], axis=1)
    parallel = functools.partial(
      ParallelBlocks,
      num_heads=self.num_heads,
      dropout=self.dropout,
      execution=self.execution,
      remat=self.remat,
      dtype=self.dtype,
    )
    tables = lambda widths: jnp.asarray(block_tables(length, count, widths))
    keys = key_mask(mask, count)
    options = {} if key_bias is None else {'key_bias': key_bias}
    stacks = parallel(num_blocks=len(self.widths), name='parallel')(
      x, tables(self.widths), keys, **options, train=train
    )
    if self.lorentz_widths:
      make_block = functools.partial(
        LorentzBlock, dim=self.lorentz_dim, window=self.lorentz_window
      )
      lorentz = parallel(
        num_blocks=len(self.lorentz_widths),
        make_block=make_block,
        name='lorentz_parallel',
      )(x, tables(self.lorentz_widths), keys, train=train)
      stacks = jnp.concatenate([stacks, lorentz])
    merged = LearnedAggregation(
      self.num_heads, self.dropout, self.temperature, self.dtype, name='merger'
    )(stacks, token, mask=mask, train=train)
    return merged if mask is None else jnp.where(mask[..., None], merged, 0)


def key_mask(
  mask: Bool[Array, 'b s'] | None, num_registers: int
) -> Bool[Array, 'b 1 k'] | None:
  """Returns the keys of a video token: real video tokens and all registers.

  k = s + num_registers; None if nothing is masked.
  """
  if mask is None:
    return None
  keys = jnp.pad(mask, ((0, 0), (0, num_registers)), constant_values=True)
  return keys[:, None]
