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
  video's tokens and dropped afterwards.
  """

  widths: tuple[float, ...]
  num_heads: int
  input_dropout: float
  dropout: float
  temperature: float
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
    batch, length, width = tokens.shape
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
      self.dtype,
      name='parallel',
    )(
      x,
      jnp.asarray(block_tables(length, count, self.widths)),
      key_mask(batch, length, count, mask),
      train=train,
    )[:, :, :length]
    merged = LearnedAggregation(
      self.num_heads, self.dropout, self.temperature, self.dtype, name='merger'
    )(stacks, mask=mask, train=train)
    return merged if mask is None else jnp.where(mask[..., None], merged, 0)


def key_mask(
  batch: int,
  length: int,
  num_registers: int,
  mask: Bool[Array, 'b s'] | None,
) -> Bool[Array, 'b q k'] | None:
  """Returns who may attend whom, q = k = length + num_registers.

  A video token attends real video tokens and all registers; a register only
  real video tokens, not even itself.
  """
  if mask is None and num_registers == 0:
    return None
  if mask is None:
    mask = jnp.ones((batch, length), bool)
  size = length + num_registers
  video = jnp.pad(mask, ((0, 0), (0, num_registers)))[:, None]
  position = jnp.arange(size)
  to_register = (position < length)[:, None] & (position >= length)[None]
  return jnp.broadcast_to(video | to_register, (batch, size, size))
