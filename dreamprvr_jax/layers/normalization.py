"""Layer normalisation with the published constants."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from dreamprvr_jax.types import DType


class LayerNorm(nn.LayerNorm):
  """Flax's, but parameters that exist are taken without tracing their initial
  values to compare the shapes, which takes longer than the rest."""

  @nn.nowrap
  def param(
    self, name: str, init_fn: Callable[..., Any], *args: Any, **options: Any
  ) -> Any:
    """Returns a parameter, and creates it in `init`."""
    if not self.is_initializing() and self.has_variable('params', name):
      return self.get_variable('params', name)
    return super().param(name, init_fn, *args, **options)


def layer_norm(name: str | None, dtype: DType) -> LayerNorm:
  """Returns a LayerNorm module: eps 1e-5, two-pass variance in float32."""
  return LayerNorm(
    epsilon=1e-5, dtype=dtype, use_fast_variance=False, name=name
  )
