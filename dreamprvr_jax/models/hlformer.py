"""HLFormer (ICCV 2025): Lorentz blocks beside Euclidean ones, and a cone."""

import dataclasses
import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.lorentz import curved_exponential
from dreamprvr_jax.layers.pooling import ScoredPooling
from dreamprvr_jax.models.consolidated import LorentzModel
from dreamprvr_jax.models.outputs import ConePoints, RetrievalOutput
from dreamprvr_jax.types import Batch

# Bounds of the logarithm of the curvature, as released.
_CURVATURE = (math.log(0.1), math.log(10.0))


class HLFormer(LorentzModel):
  """GMMFormer v2 with half of the blocks in the Lorentz model, a mean token,
  and points for the cone loss instead of a matching."""

  learned_token: ClassVar[bool] = False

  def provided(self) -> set[str]:
    """Returns the names of what losses may read."""
    return super().provided() | {'cone'}

  def setup(self):
    self.add_inputs()
    self.add_encoders()
    self.cone = ConeHead(self.width, self.dtype)

  def __call__(self, batch: Batch, *, train: bool = False) -> RetrievalOutput:
    """Returns what the losses read of a batch."""
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
      name = jax.tree_util.keystr(path[-1:], simple=True)
      if name == 'exponent' or name.endswith('_exponent'):
        return jnp.minimum(value, 0.0)
      if name == 'log_curvature':
        return jnp.clip(value, *_CURVATURE)
      return value

    return jax.tree_util.tree_map_with_path(bounded, params)


class ConeHead(nn.Module):
  """Maps queries and tokens to points in hyperbolic space."""

  width: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    queries: Float[Array, 'n d'],
    clip_tokens: Float[Array, 'b c d'],
    frame_tokens: Float[Array, 'b f d'],
  ) -> ConePoints:
    scale = nn.initializers.constant(-0.5 * math.log(self.width))
    scalar = lambda name, init: initializers.parameter(self, name, init, ())
    log_curvature = _bounded(
      scalar('log_curvature', nn.initializers.zeros), *_CURVATURE
    )
    text = _bounded(scalar('text_exponent', scale), None, 0.0)
    video = _bounded(scalar('video_exponent', scale), None, 0.0)
    # As released, without mask: padded frames are zero, but take weight.
    pool = lambda name, x: ScoredPooling(jnp.float32, name=name)(
      x.astype(jnp.float32), mask=jnp.ones(x.shape[:2], bool)
    )
    pooled = pool('frame_pooling', frame_tokens)
    pooled = (pooled + pool('clip_pooling', clip_tokens)) / 2
    curvature = jnp.exp(log_curvature)
    self.sow('intermediates', 'pooled', pooled)
    return ConePoints(
      videos=curved_exponential(pooled * jnp.exp(video), curvature),
      captions=curved_exponential(queries * jnp.exp(text), curvature),
      curvature=curvature,
    )


def _bounded(
  x: Float[Array, ''], least: float | None, most: float | None
) -> Float[Array, '']:
  """Returns x within its bounds, with the gradient at the bound."""
  return x + jax.lax.stop_gradient(jnp.clip(x, least, most) - x)
