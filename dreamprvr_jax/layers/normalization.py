"""Layer normalisation with the published constants."""

import flax.linen as nn

from dreamprvr_jax.types import DType


def layer_norm(name: str | None, dtype: DType) -> nn.LayerNorm:
  """Returns a LayerNorm module: eps 1e-5, two-pass variance in float32."""
  return nn.LayerNorm(
    epsilon=1e-5, dtype=dtype, use_fast_variance=False, name=name
  )
