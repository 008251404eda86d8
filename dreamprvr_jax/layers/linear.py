"""Linear maps with the family's initial values (common notes, C8)."""

import flax.linen as nn

from dreamprvr_jax.layers import initializers
from dreamprvr_jax.types import DType


def linear(
  features: int,
  dtype: DType,
  name: str | None = None,
  *,
  use_bias: bool = True,
) -> nn.Dense:
  """Returns a linear map to `features`: weights N(0, 0.02), biases 0."""
  return nn.Dense(
    features,
    use_bias=use_bias,
    dtype=dtype,
    kernel_init=initializers.WEIGHT,
    name=name,
  )
