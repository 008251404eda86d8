"""Noise-contrastive losses."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.losses.reduction import masked_logsumexp, same_video


def nce(
  scores: Float[Array, 'n b'],
  *,
  caption_video: Int[Array, ' n'],
  caption_mask: Bool[Array, ' n'],
  video_mask: Bool[Array, ' b'],
) -> tuple[Float[Array, ' n'], Float[Array, ' b']]:
  """Returns the two-way NCE per caption and per video; no temperature.

  Per caption: lse_v S[n, v] - S[n, y_n]. Per video: lse_n S[n, v] - lse over
  the video's own captions. The caller masks the values of padding rows.

  Source: docs/method.md, "NCE".

  Args:
    scores: Un-normalised dot products.
    caption_video: y, the video of each caption.
    caption_mask: Real captions.
    video_mask: Real videos.
  """
  own = same_video(caption_video, caption_mask, video_mask)
  real = caption_mask[:, None] & video_mask[None]
  positive = jnp.sum(jnp.where(own, scores, 0.0), axis=1)
  per_caption = masked_logsumexp(scores, video_mask[None], axis=1) - positive
  per_video = masked_logsumexp(scores, real, axis=0) - masked_logsumexp(
    scores, own, axis=0
  )
  # A video without captions has no positive.
  return per_caption, jnp.where(jnp.any(own, axis=0), per_video, 0.0)


def paired_nce(
  scores: Float[Array, 'n n'], mask: Bool[Array, ' n']
) -> Float[Array, ' n']:
  """Returns the symmetric NCE of each caption with the video it sees.

  The lse is over the caption's row and column together, so it contains the
  diagonal twice; the diagonal is then subtracted. Source: docs/method.md,
  "Guided losses" (FNCE).

  Args:
    scores: Column j is the video of caption j, as caption j looks at it.
    mask: Real captions.
  """
  row = masked_logsumexp(scores, mask[None], axis=1)
  column = masked_logsumexp(scores, mask[:, None], axis=0)
  return jnp.logaddexp(row, column) - jnp.diagonal(scores)


def supervised_contrastive(
  embeddings: Float[Array, 'n d'],
  *,
  labels: Int[Array, ' n'],
  mask: Bool[Array, ' n'],
  temperature: float,
) -> tuple[Float[Array, ' n'], Bool[Array, ' n']]:
  """Returns the supervised contrastive loss per row and which rows count.

  A row counts if another real row has its label; its loss is the mean, over
  those, of -(sim / tau - log sum_{k != i} exp(sim_ik / tau)).

  Source: Khosla et al. 2020; docs/method.md, "Query structure" (L_qsp).

  Args:
    embeddings: Rows of norm 1.
    labels: Group of each row.
    mask: Real rows.
    temperature: tau.
  """
  size = embeddings.shape[0]
  logits = embeddings @ embeddings.T / temperature
  other = mask[:, None] & mask[None] & ~jnp.eye(size, dtype=bool)
  sibling = other & (labels[:, None] == labels[None])
  count = jnp.sum(sibling, axis=1)
  normaliser = masked_logsumexp(logits, other, axis=1)
  total = jnp.sum(jnp.where(sibling, logits, 0.0), axis=1)
  per_row = normaliser - total / jnp.maximum(count, 1)
  counts = count > 0
  return jnp.where(counts, per_row, 0.0), counts


def query_diversity(
  embeddings: Float[Array, 'n d'],
  *,
  labels: Int[Array, ' n'],
  mask: Bool[Array, ' n'],
  delta: float,
  alpha: float,
  power: float | None,
) -> Float[Array, ' n']:
  """Returns the query diversity loss per row.

  Version 2 (GMMFormer v2): sum over the row's siblings j of (1 + cos_ij)^power
  * log(1 + exp(alpha (cos_ij + delta))). Version 1 (GMMFormer), with `power`
  None: log(1 + sum over j of exp(alpha (cos_ij + delta))).

  Source: docs/method.md, "Query diversity" (QDL).

  Args:
    embeddings: Rows of norm 1.
    labels: Group of each row.
    mask: Real rows.
    delta: Shift of the cosine.
    alpha: Sharpness.
    power: lambda; None for version 1.
  """
  size = embeddings.shape[0]
  cosine = embeddings @ embeddings.T
  sibling = (
    (labels[:, None] == labels[None])
    & mask[:, None]
    & mask[None]
    & ~jnp.eye(size, dtype=bool)
  )
  if power is None:
    logits = masked_logsumexp(alpha * (cosine + delta), sibling, axis=1)
    return jax.nn.softplus(logits)
  # Pairs that are no siblings get the base 1: a power of a rounding error below
  # zero would be NaN, and NaN * 0 stays NaN.
  base = jnp.where(sibling, jnp.maximum(1 + cosine, 1e-12), 1.0)
  value = base**power * jax.nn.softplus(alpha * (cosine + delta))
  return jnp.sum(jnp.where(sibling, value, 0.0), axis=1)
