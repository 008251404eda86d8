"""Optimal matching of a video's captions and clips (GMMFormer v2)."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


def optimal_pairs(
  cosine: Float[Array, 'b q c'], real: Bool[Array, 'b q']
) -> tuple[Int[Array, 'b q'], Bool[Array, 'b q']]:
  """Returns the clip of each caption, and which captions are matched.

  The matching is one-to-one within a video and has the greatest total cosine.
  If a video has more captions than clips, the rest stay unmatched.

  Args:
    cosine: Cosines of each video's captions and clips.
    real: Real captions.
  """
  captions, clips = cosine.shape[1:]
  # Costlier than any real pair: padding gets the clips that are left over.
  cost = jnp.where(real[..., None], -cosine, 2.0)
  rows, columns = jax.vmap(optax.assignment.hungarian_algorithm)(cost)
  clip = jnp.zeros((len(cosine), captions), jnp.int32)
  matched = jnp.zeros((len(cosine), captions), bool)
  video = jnp.arange(len(cosine))[:, None]
  clip = clip.at[video, rows].set(columns.astype(jnp.int32) % clips)
  matched = matched.at[video, rows].set(True)
  return clip, matched & real


def matched_cosines(
  cosine: Float[Array, 'b q c'], real: Bool[Array, 'b q']
) -> tuple[Float[Array, 'b q'], Bool[Array, 'b q']]:
  """Returns the cosine of each matched pair, and which pairs count.

  Videos with one caption do not take part. Gradients flow through the
  cosines, not through the assignment.

  Source: docs/method.md, "Optimal matching"; OM = 1 - their mean.
  """
  real = real & (jnp.sum(real, axis=1, keepdims=True) > 1)
  clip, matched = optimal_pairs(jax.lax.stop_gradient(cosine), real)
  return jnp.take_along_axis(cosine, clip[..., None], axis=2)[..., 0], matched
