"""Means of all windows over a short sequence (MS-SL)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def window_weights(length: int) -> Float[np.ndarray, 'w s']:
  """Returns the matrix from tokens to window means, float32.

  The rows are all contiguous windows, first those of length 1, then 2, and so
  on; w = length (length + 1) / 2. Source: docs/method.md, "Window means".
  """
  rows = []
  for size in range(1, length + 1):
    for first in range(length - size + 1):
      row = np.zeros(length, np.float32)
      row[first : first + size] = 1 / size
      rows.append(row)
  return np.stack(rows)


def window_means(tokens: Float[Array, 'b s d']) -> Float[Array, 'b w d']:
  """Returns the mean token of each window."""
  weights = jnp.asarray(window_weights(tokens.shape[1]), tokens.dtype)
  return jnp.einsum('ws,bsd->bwd', weights, tokens)
