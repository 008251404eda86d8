"""HLFormer (ICCV 2025): Lorentz blocks beside Euclidean ones, and a cone."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamprvr_jax.layers.lorentz import curved_exponential
from dreamprvr_jax.layers.pooling import ScoredPooling
from dreamprvr_jax.models import base
from dreamprvr_jax.models.consolidated import ConsolidatedModel
from dreamprvr_jax.types import Batch

# Bounds of the logarithm of the curvature.
_CURVATURE = (math.log(0.1), math.log(10.0))


class HLFormer(ConsolidatedModel):
  """GMMFormer v2 with half of the blocks in the Lorentz model, a mean token,
  and points for the cone loss instead of a matching."""

  block_widths: tuple[float, ...] = (0.0, 2.0, 4.0, 8.0)
  lorentz_widths: tuple[float, ...] = (0.0, 2.0, 4.0, 8.0)
  learned_token: bool = False

  def provided(self) -> set[str]:
    """Returns what the losses may ask for."""
    return super().provided() | {'cone'}

  def setup(self):
    self.add_inputs()
    self.add_encoders()
    self.cone = ConeHead(self.width, self.dtype)

  def __call__(
    self, batch: Batch, *, train: bool = False
  ) -> base.RetrievalOutput:
    """Returns everything that the objective needs of one batch."""
    output = super().__call__(batch, train=train)
    points = self.cone(
      output.text_queries, output.videos.clip_tokens, output.videos.frame_tokens
    )
    return dataclasses.replace(output, cone=points)

  def constrain(self, params: Any) -> Any:
    """Returns the parameters within their bounds, before an update.

    As released, values out of bounds are overwritten, so that the update
    starts from the bound.
    """

    def bounded(path, value):
      names = [str(getattr(key, 'key', key)) for key in path]
      if names[-1] == 'exponent' or names[-1].endswith('_exponent'):
        return jnp.minimum(value, 0.0)
      if names[-1] == 'log_curvature':
        return jnp.clip(value, *_CURVATURE)
      return value

    return jax.tree_util.tree_map_with_path(bounded, params)


class ConeHead(nn.Module):
  """From queries and tokens to points in hyperbolic space."""

  width: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    queries: Float[Array, 'n d'],
    clip_tokens: Float[Array, 'b c d'],
    frame_tokens: Float[Array, 'b f d'],
  ) -> base.ConePoints:
    scale = nn.initializers.constant(-0.5 * math.log(self.width))
    scalar = lambda name, init: self.param(name, init, ())
    log_curvature = _held(
      scalar('log_curvature', nn.initializers.zeros), *_CURVATURE
    )
    text = _held(scalar('text_exponent', scale), None, 0.0)
    video = _held(scalar('video_exponent', scale), None, 0.0)
    # Without mask, as released: padded frames are zero, and take weight.
    pool = lambda name, x: ScoredPooling(jnp.float32, name=name)(
      x.astype(jnp.float32), mask=jnp.ones(x.shape[:2], bool)
    )
    pooled = pool('frame_pooling', frame_tokens)
    pooled = (pooled + pool('clip_pooling', clip_tokens)) / 2
    curvature = jnp.exp(log_curvature)
    self.sow('intermediates', 'pooled', pooled)
    return base.ConePoints(
      videos=curved_exponential(pooled * jnp.exp(video), curvature),
      captions=curved_exponential(queries * jnp.exp(text), curvature),
      curvature=curvature,
    )


def _held(
  x: Float[Array, ''], least: float | None, most: float | None
) -> Float[Array, '']:
  """Returns x within its bounds, with the gradient at the bound."""
  return x + jax.lax.stop_gradient(jnp.clip(x, least, most) - x)
