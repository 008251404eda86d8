"""Tokens as bytes: int8 codes with one scale per token, in numpy."""

import numpy as np
from jaxtyping import Float, Int8

_GREATEST = 127


def quantize(
  tokens: Float[np.ndarray, '... d'],
) -> tuple[Int8[np.ndarray, '... d'], Float[np.ndarray, '...']]:
  """Returns (codes, scales) such that codes * scales are about the tokens.

  The entry of greatest size of a token becomes 127 or -127, others are
  rounded to the nearest step: no entry is off by more than half a scale. A
  zero token has the scale 0.
  """
  scales = np.max(np.abs(tokens), axis=-1).astype(np.float32) / _GREATEST
  steps = np.where(scales > 0, scales, 1)[..., None]
  return np.rint(tokens / steps).astype(np.int8), scales


def dequantize(
  codes: Int8[np.ndarray, '... d'], scales: Float[np.ndarray, '...']
) -> Float[np.ndarray, '... d']:
  """Returns the tokens that codes stand for, float32; numpy or JAX."""
  return codes.astype(np.float32) * scales[..., None]
