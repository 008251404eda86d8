"""Captions, grouped by their video."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def captions_by_video(
  caption_video: Int[Array, ' n'],
  caption_mask: Bool[Array, ' n'],
  num_videos: int,
  most: int,
) -> tuple[Int[Array, 'b q'], Bool[Array, 'b q']]:
  """Returns the captions of each video, and which of the q = `most` are real.

  A video's captions beyond `most` are left out.

  Args:
    caption_video: The video of each caption; those of one video are adjacent.
    caption_mask: Real captions.
    num_videos: b.
    most: Captions of a video at most.
  """
  own = (caption_video[None] == jnp.arange(num_videos)[:, None]) & caption_mask
  first = jnp.argmax(own, axis=1)
  place = jnp.arange(most)
  real = place[None] < jnp.sum(own, axis=1)[:, None]
  return jnp.where(real, first[:, None] + place, 0), real
