"""The fixed sin/cos table for positions and diffusion steps."""

import numpy as np
from jaxtyping import Float


def sinusoid_table(length: int, width: int) -> Float[np.ndarray, 'l w']:
  """Returns sin (even columns) and cos (odd ones) of i * 10000^(-2k/width)."""
  frequency = 10000.0 ** (-np.arange(0, width, 2) / width)
  angle = np.arange(length)[:, None] * frequency
  table = np.zeros((length, width))
  table[:, 0::2] = np.sin(angle)
  table[:, 1::2] = np.cos(angle)[:, : width // 2]
  return table.astype(np.float32)
