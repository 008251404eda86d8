"""Evidential learning between queries and alternatives (Holmes).

Source: docs/method.md, "Evidence" and "Evidence between videos". All is in
float32; closed forms replace the outer products of the rule of combination.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.losses.reduction import masked_logsumexp, same_video


def evidence(
  similarity: Float[Array, '... k'], temperature: float
) -> Float[Array, '... k']:
  """Returns exp(tanh(x) / temperature)."""
  return jnp.exp(jnp.tanh(similarity) / temperature)


def combine(
  first: Float[Array, '... k'],
  second: Float[Array, '... k'],
  count: Float[Array, '...'],
) -> Float[Array, '... k']:
  """Returns the combined evidence by Dempster's rule, over `count` real
  alternatives."""
  return first + second + first * second / count


def expected_error(
  found: Float[Array, '... k'],
  label: Float[Array, '... k'],
  real: Bool[Array, '... k'],
) -> Float[Array, '...']:
  """Returns the expected squared error of a Dirichlet distribution.

  Args:
    found: Evidence of each alternative.
    label: Distribution over the alternatives.
    real: Real alternatives.
  """
  _, strength, mean = _dirichlet(found, real)
  bias = jnp.where(real, jnp.square(label - mean), 0.0)
  return jnp.sum(bias + mean * (1 - mean) / (strength + 1), axis=-1)


def _dirichlet(
  found: Float[Array, '... k'], real: Bool[Array, '... k']
) -> tuple[Float[Array, '... k'], Float[Array, '... 1'], Float[Array, '... k']]:
  """Returns parameters, strength and mean, 0 for masked alternatives."""
  alpha = jnp.where(real, found + 1, 0.0)
  strength = jnp.sum(alpha, axis=-1, keepdims=True)
  return alpha, strength, alpha / strength


def _doubt(
  scores: Float[Array, 'n b'],
  found: Float[Array, 'n b'],
  own: Bool[Array, 'n b'],
  caption_mask: Bool[Array, ' n'],
  video_mask: Bool[Array, ' b'],
  margin: float,
) -> tuple[Bool[Array, ' n'], Bool[Array, ' n']]:
  """Returns which captions are under-determined, and which are precise."""
  count = jnp.sum(video_mask)
  alpha, strength, mean = _dirichlet(found, video_mask)
  uncertainty = (count / strength)[:, 0]
  consistency = jnp.sum(jnp.where(own, scores, 0.0), axis=1)
  entropy = jnp.sum(mean * (digamma(strength + 1) - digamma(alpha + 1)), axis=1)

  best = jnp.argmax(jnp.where(video_mask, scores, -jnp.inf), axis=1)
  right = jnp.take_along_axis(own, best[:, None], axis=1)[:, 0] & caption_mask
  some = jnp.any(right)
  most_doubt = jnp.max(jnp.where(right, uncertainty, -jnp.inf))
  least_match = jnp.min(jnp.where(right, consistency, jnp.inf))
  most_doubt = jnp.where(some, jnp.minimum(most_doubt, 1 - margin), 1 - margin)
  least_match = jnp.where(some, jnp.maximum(least_match, margin), margin)
  ordered = jnp.sort(jnp.where(caption_mask, entropy, jnp.inf))
  median = ordered[jnp.maximum(jnp.sum(caption_mask) - 1, 0) // 2]

  under = uncertainty > most_doubt
  precise = ~under & (consistency >= least_match) & (entropy <= median)
  return under, precise


def query_sets(
  scores: Float[Array, 'n b'],
  found: Float[Array, 'n b'],
  *,
  caption_video: Int[Array, ' n'],
  caption_mask: Bool[Array, ' n'],
  video_mask: Bool[Array, ' b'],
  margin: float,
) -> Int[Array, ' n']:
  """Returns the kind of each caption in one branch: 0 precise, 1 polysemous,
  2 under-determined.

  Args:
    scores: Cosine scores of the branch.
    found: Their evidence.
    caption_video: The video of each caption.
    caption_mask: Real captions.
    video_mask: Real videos.
    margin: Limit of both thresholds (released option `division_beta`).
  """
  own = same_video(caption_video, caption_mask, video_mask)
  under, precise = _doubt(scores, found, own, caption_mask, video_mask, margin)
  return jnp.where(under, 2, jnp.where(precise, 0, 1))


def calibrated_labels(
  branches: tuple[Float[Array, 'n b'], Float[Array, 'n b']],
  found: tuple[Float[Array, 'n b'], Float[Array, 'n b']],
  *,
  caption_video: Int[Array, ' n'],
  caption_mask: Bool[Array, ' n'],
  video_mask: Bool[Array, ' b'],
  margin: float,
  smoothing: float,
) -> tuple[Float[Array, 'n b'], Bool[Array, ' n']]:
  """Returns label distributions, smoothed where a caption is polysemous.

  A caption is polysemous if it is under-determined in no branch and not precise
  in both. No gradient flows.

  Args:
    branches: Cosine scores of both branches.
    found: Their evidence.
    caption_video: The video of each caption.
    caption_mask: Real captions.
    video_mask: Real videos.
    margin: Limit of the thresholds.
    smoothing: Share of the label that is smoothed (`smooth_beta`).
  """
  where = {
    'caption_video': caption_video,
    'caption_mask': caption_mask,
    'video_mask': video_mask,
  }
  branches, found = jax.lax.stop_gradient((branches, found))
  kinds = [
    query_sets(scores, e, margin=margin, **where)
    for scores, e in zip(branches, found, strict=True)
  ]
  under = (kinds[0] == 2) | (kinds[1] == 2)
  precise = (kinds[0] == 0) & (kinds[1] == 0)
  polysemous = ~under & ~precise
  one_hot = same_video(**where).astype(jnp.float32)
  soft = [
    jnp.exp(s - masked_logsumexp(s, video_mask[None], axis=1)[:, None])
    for s in branches
  ]
  blend = (1 - smoothing) * one_hot + smoothing / 2 * sum(soft)
  blend = jnp.where(video_mask, blend, 0.0)
  return jnp.where(polysemous[:, None], blend, one_hot), polysemous
