"""Losses of a video's Gaussian and the Gaussian of its captions (RAL).

Source: docs/method.md, "Robust alignment".
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.losses.reduction import masked_logsumexp


def proxy_matching(
  text: Float[Array, 'b k d'],
  video: Float[Array, 'b k d'],
  video_mask: Bool[Array, ' b'],
) -> Float[Array, ' b']:
  """Returns the cross-entropy of proxies per video, in nats.

  The mean over a video's proxies, and over both directions, of log sum exp over
  all proxies of the other side minus the mean product with the video's own.
  Products of un-normalised vectors, no temperature.

  Args:
    text: Proxies of the captions.
    video: Proxies of the videos.
    video_mask: Real videos.
  """
  flat = lambda x: x.reshape(-1, x.shape[-1])
  products = flat(video) @ flat(text).T
  real = jnp.repeat(video_mask, video.shape[1])
  total = jnp.zeros(video_mask.shape)
  for table in (products, products.T):
    normaliser = masked_logsumexp(table, real[None], axis=1)
    total += jnp.mean(normaliser.reshape(video.shape[:2]), axis=1)
  own = jnp.sum(jnp.mean(video, axis=1) * jnp.mean(text, axis=1), axis=-1)
  return total / 2 - own


def cross_divergence(
  mean: Float[Array, 'b d'],
  spread: Float[Array, 'b d'],
  other_mean: Float[Array, 'b d'],
  other_spread: Float[Array, 'b d'],
) -> Float[Array, ' b']:
  """Returns KL(N(mean, e^(2 spread)) || N(other_mean, e^(2 other_spread))) per
  video, in nats.

  Args:
    mean: Means of the first Gaussians.
    spread: Logarithms of their standard deviations.
    other_mean: Means of the second Gaussians.
    other_spread: Logarithms of their standard deviations.
  """
  square = jnp.exp(2 * spread) + jnp.square(mean - other_mean)
  ratio = square / (2 * jnp.exp(2 * other_spread))
  return jnp.sum(other_spread - spread + ratio - 0.5, axis=-1)
