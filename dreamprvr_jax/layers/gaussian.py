"""The fixed Gaussian tables that multiply attention logits."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def gaussian_table(length: int, width: float) -> Float[np.ndarray, 'l l']:
  """Returns the table of one width, each row divided by its maximum.

  G[i, j] = exp(-(j / (length-1) - i / length)^2 / (2 s^2)) / row maximum with
  s = max(width, 0.01) / 9. Centres are i / length while positions are
  linspace(0, 1, length): the table is not symmetric, as in the released
  programs (docs/method.md, "Gaussian table").

  Args:
    length: Number of tokens, at least 2.
    width: Width of the Gaussian, `config.model.block_widths`.

  Returns:
    A float64 array, entries in [0, 1].
  """
  centre = np.arange(length)[:, None] / length
  position = np.linspace(0.0, 1.0, length)[None, :]
  sigma = max(width, 0.01) / 9
  exponent = -np.square(position - centre) / (2 * sigma**2)
  # Divided by the maximum before the exponential, which could underflow.
  return np.exp(exponent - exponent.max(axis=1, keepdims=True))


def block_tables(
  length: int, num_registers: int, widths: tuple[float, ...]
) -> Float[np.ndarray, 'a q s']:
  """Returns one multiplicative table per parallel block, float32.

  The factor is 1 in the columns of registers, and everywhere in blocks of width
  0. q = length, s = length + num_registers.
  """
  size = length + num_registers
  tables = np.ones((len(widths), length, size), np.float32)
  for block, width in enumerate(widths):
    if width:
      tables[block, :, :length] = gaussian_table(length, width)
  return tables


def tables_of_length(
  length: Int[Array, ''], size: int, widths: tuple[float, ...]
) -> Float[Array, 'a s s']:
  """Returns the tables for a length that is known only at run time; float32.

  s = `size`; rows and columns from `length` on belong to padding.
  """
  index = jnp.arange(size)
  centre = index[:, None] / length
  position = index[None] / jnp.maximum(length - 1, 1)
  square = jnp.square(position - centre)
  nearest = jnp.where(index < length, square, jnp.inf)
  # Factors of padding stay within 1: an infinite one would outweigh the mask.
  square = jnp.maximum(square - jnp.min(nearest, axis=1, keepdims=True), 0.0)
  table = lambda width: jnp.exp(-square / (2 * (max(width, 0.01) / 9) ** 2))
  return jnp.stack([table(w) if w else jnp.ones((size, size)) for w in widths])
