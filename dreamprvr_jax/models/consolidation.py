"""Register-augmented Gaussian attention block ("concentrate")."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.layers.blocks import ParallelBlocks
from dreamprvr_jax.layers.gaussian import block_tables
from dreamprvr_jax.layers.mixture import LearnedAggregation
from dreamprvr_jax.layers.projection import InputProjection
from dreamprvr_jax.types import DType


class RegisterAugmentedBlock(nn.Module):
  """Parallel Gaussian blocks over tokens and registers, then one mixture.

  Source: DreamPRVR specification, section 5. Registers are read by the
  video's tokens and dropped afterwards, so theirs are keys and values only:
  what a register would read itself is not computed.
  """

  widths: tuple[float, ...]
  num_heads: int
  input_dropout: float
  dropout: float
  temperature: float
  execution: str = 'batched'
  remat: bool = False
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, 'b s d'],
    registers: Float[Array, 'b r d'] | None,
    mask: Bool[Array, 'b s'] | None,
    *,
    train: bool,
  ) -> Float[Array, 'b s d']:
    """Returns the encoded tokens, zero where `mask` is False.

    Args:
      tokens: Clip or frame tokens.
      registers: None for the system without registers.
      mask: Real tokens; None if all of them are.
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
    stacks = ParallelBlocks(
      len(self.widths),
      self.num_heads,
      self.dropout,
      self.execution,
      self.remat,
      self.dtype,
      name='parallel',
    )(
      x,
      jnp.asarray(block_tables(length, count, self.widths)),
      key_mask(mask, count),
      train=train,
    )
    merged = LearnedAggregation(
      self.num_heads, self.dropout, self.temperature, self.dtype, name='merger'
    )(stacks, mask=mask, train=train)
    return merged if mask is None else jnp.where(mask[..., None], merged, 0)


def key_mask(
  mask: Bool[Array, 'b s'] | None, num_registers: int
) -> Bool[Array, 'b 1 k'] | None:
  """Returns what a video token attends: real video tokens and all registers.

  k = s + num_registers; None if nothing is masked.
  """
  if mask is None:
    return None
  keys = jnp.pad(mask, ((0, 0), (0, num_registers)), constant_values=True)
  return keys[:, None]
