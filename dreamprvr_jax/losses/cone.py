"""Entailment cones of hyperbolic space (HLFormer): a caption should be in the
cone of its video."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

# Twice the minimal radius of the cones, as released.
_APERTURE = 0.2


def half_aperture(
  apex: Float[Array, '... d'], curvature: Float[Array, '']
) -> Float[Array, '...']:
  """Returns the half aperture of the cone at a point, in radians."""
  norm = jnp.linalg.norm(apex, axis=-1)
  ratio = _APERTURE / (norm * jnp.sqrt(curvature) + 1e-8)
  inside = jnp.abs(ratio) < 1
  angle = jnp.arcsin(jnp.where(inside, ratio, 0.0))
  return jnp.where(inside, angle, jnp.sign(ratio) * (math.pi / 2))


def exterior_angle(
  apex: Float[Array, '... d'],
  point: Float[Array, '... d'],
  curvature: Float[Array, ''],
) -> Float[Array, '...']:
  """Returns the angle at `apex` between its axis and the geodesic to `point`,
  in radians."""
  time = lambda x: jnp.sqrt(1 / curvature + jnp.sum(x * x, -1))
  apex_time, point_time = time(apex), time(point)
  inner = jnp.sum(apex * point, -1) - apex_time * point_time
  w = curvature * inner
  norm = jnp.linalg.norm(apex, axis=-1)
  root = jnp.sqrt(jnp.maximum(w * w - 1, 1e-8))
  ratio = (point_time + w * apex_time) / (norm * root + 1e-8)
  inside = jnp.abs(ratio) < 1
  angle = jnp.arccos(jnp.where(inside, ratio, 0.0))
  return jnp.where(inside, angle, jnp.where(ratio > 0, 0.0, math.pi))


def cone_violation(
  videos: Float[Array, 'n d'],
  captions: Float[Array, 'n d'],
  curvature: Float[Array, ''],
) -> Float[Array, ' n']:
  """Returns the angle by which each caption is outside its video's cone, in
  radians.

  Source: docs/method.md, "Cone"; L_pop is the mean.
  """
  angle = exterior_angle(videos, captions, curvature)
  return jnp.maximum(0.0, angle - half_aperture(videos, curvature))
