"""Averages under masks and sums over the captions of a video."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.numerics import MASKED


def masked_mean(
  values: Float[Array, ' n'], mask: Bool[Array, ' n']
) -> Float[Array, '']:
  """Returns the mean of the real values; 0 without any."""
  total = jnp.sum(jnp.where(mask, values, 0.0))
  return total / jnp.maximum(jnp.sum(mask), 1)


def masked_logsumexp(
  values: Float[Array, '...'], mask: Bool[Array, '...'], axis: int
) -> Float[Array, '...']:
  """Returns log sum exp over `axis` of the real values.

  A row without real values gives a large negative number, with gradient 0.
  """
  return jax.nn.logsumexp(jnp.where(mask, values, MASKED), axis=axis)


def same_video(
  caption_video: Int[Array, ' n'],
  caption_mask: Bool[Array, ' n'],
  video_mask: Bool[Array, ' b'],
) -> Bool[Array, 'n b']:
  """Returns which captions (rows) describe which videos (columns)."""
  columns = jnp.arange(video_mask.shape[0])
  own = caption_video[:, None] == columns[None]
  return own & caption_mask[:, None] & video_mask[None]
