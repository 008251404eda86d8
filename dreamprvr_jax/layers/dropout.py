"""Dropout whose random bits cost a few integer operations an element."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32


class Dropout(nn.Module):
  """Zeroes elements with probability `rate`, scales the rest by 1/(1-rate).

  Bits come from a counter hashed with a key of the stream 'dropout', rather
  than from a block cipher, whose bits are costly on a CPU. The hash is
  elementwise, so it fuses into its consumer, and an element's bit depends on
  its index alone: the same on one device or eight.
  """

  rate: float

  @nn.compact
  def __call__(
    self, x: Float[Array, '...'], *, train: bool
  ) -> Float[Array, '...']:
    if not train or self.rate == 0.0:
      return x
    keep = 1.0 - self.rate
    bits = hashed_bits(self.make_rng('dropout'), x.shape)
    # Compared as integers: a conversion to float would cost more than the
    # hash. The threshold is exact to 2^-32.
    kept = bits < jnp.uint32(min(round(keep * 2**32), 2**32 - 1))
    return jnp.where(kept, x * (1.0 / keep), jnp.zeros_like(x))


def hashed_bits(
  key: Key[Array, ''], shape: tuple[int, ...]
) -> UInt32[Array, '...']:
  """Returns 32 random bits per element: two rounds of an integer hash.

  Each round is the multiply-and-shift permutation of 32 bits with the
  constants of Wellons' `lowbias32` (bias 0.17 of an ideal permutation's);
  half of the key enters before each.
  """
  low, high = jax.random.key_data(key).astype(jnp.uint32)[..., -2:]
  counter = jnp.zeros(shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(len(shape))):
    index = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    counter = counter + index * jnp.uint32(stride % 2**32)
    stride *= shape[axis]
  return _mix(_mix(counter + low) ^ high)


def _mix(x: UInt32[Array, '...']) -> UInt32[Array, '...']:
  x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
  x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
  return x ^ (x >> 16)
