"""Triplet losses between captions and videos, with drawn negatives."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dreamprvr_jax.losses.reduction import same_video
from dreamprvr_jax.numerics import MASKED


def draw_negative_ranks(
  key: Key[Array, ''],
  *,
  caption_video: Int[Array, ' n'],
  caption_mask: Bool[Array, ' n'],
  video_mask: Bool[Array, ' b'],
  hard: bool | Bool[Array, ''],
  hard_pool: int,
) -> tuple[Int[Array, ' n'], Int[Array, ' b']]:
  """Returns the ranks of the negatives for `triplet`.

  Per caption: uniform in 1..R-1, R = B, or min(hard_pool + 1, B) if hard.
  Per video: uniform among all captions of other videos, or 0 (the hardest)
  if hard. B counts real videos.

  Source: docs/method.md, "Triplet ranking" (Tri).

  Args:
    key: Random key.
    caption_video: The video of each caption.
    caption_mask: Real captions.
    video_mask: Real videos.
    hard: Whether hard negatives are on; may be traced.
    hard_pool: Number of hardest videos to draw from.
  """
  key_t2v, key_v2t = jax.random.split(key)
  num_videos = jnp.sum(video_mask)
  last = jnp.where(hard, jnp.minimum(hard_pool, num_videos - 1), num_videos - 1)
  t2v = jax.random.randint(
    key_t2v, caption_video.shape, 1, jnp.maximum(last, 1) + 1
  )
  own = same_video(caption_video, caption_mask, video_mask)
  negatives = jnp.sum(caption_mask) - jnp.sum(own, axis=0)
  v2t = jax.random.randint(
    key_v2t, video_mask.shape, 0, jnp.maximum(negatives, 1)
  )
  return t2v, jnp.where(hard, 0, v2t)


def triplet(
  scores: Float[Array, 'n b'],
  *,
  caption_video: Int[Array, ' n'],
  caption_mask: Bool[Array, ' n'],
  video_mask: Bool[Array, ' b'],
  margin: float,
  t2v_rank: Int[Array, ' n'],
  v2t_rank: Int[Array, ' b'],
) -> tuple[Float[Array, ' n'], Float[Array, ' b']]:
  """Returns the triplet loss per caption and per video.

  Per caption: max(0, margin + S[n, v-] - S[n, y_n]). Per video: max(0, margin
  + S[n-, v] - mean of S over the video's captions). Gradients flow through
  the chosen entries and the positives, not through the choice. A side
  without any negative (a batch of one video) has loss 0.

  Source: docs/method.md, "Triplet ranking" (Tri).

  Args:
    scores: Cosine scores.
    caption_video: The video of each caption.
    caption_mask: Real captions.
    video_mask: Real videos.
    margin: The margin.
    t2v_rank: Rank, from 1, of each caption's negative video in the descending
      list whose rank 0 is the positive.
    v2t_rank: Rank, from 0, of each video's negative caption among the
      captions of other videos in descending order.
  """
  own = same_video(caption_video, caption_mask, video_mask)
  fixed = jax.lax.stop_gradient(scores)

  negative_video = ~own & video_mask[None]
  order = jnp.argsort(-jnp.where(negative_video, fixed, MASKED), axis=1)
  chosen = jnp.take_along_axis(order, t2v_rank[:, None] - 1, axis=1)
  negative = jnp.take_along_axis(scores, chosen, axis=1)[:, 0]
  positive = jnp.sum(jnp.where(own, scores, 0.0), axis=1)
  per_caption = jnp.where(
    jnp.any(negative_video, axis=1),
    jax.nn.relu(margin + negative - positive),
    0.0,
  )

  negative_caption = ~own & caption_mask[:, None]
  order = jnp.argsort(-jnp.where(negative_caption, fixed, MASKED), axis=0)
  chosen = jnp.take_along_axis(order, v2t_rank[None], axis=0)
  negative = jnp.take_along_axis(scores, chosen, axis=0)[0]
  count = jnp.maximum(jnp.sum(own, axis=0), 1)
  positive = jnp.sum(jnp.where(own, scores, 0.0), axis=0) / count
  per_video = jnp.where(
    jnp.any(negative_caption, axis=0),
    jax.nn.relu(margin + negative - positive),
    0.0,
  )
  return per_caption, per_video


def draw_paired_ranks(
  key: Key[Array, ''],
  caption_mask: Bool[Array, ' n'],
  *,
  hard: bool | Bool[Array, ''],
  hard_pool: int,
) -> tuple[Int[Array, ' n'], Int[Array, ' n']]:
  """Returns the ranks of the negatives for `paired_triplet`.

  One for each row and, independently, each column: uniform in 1..R-1, R = N, or
  min(hard_pool + 1, N) if hard. N counts real captions.
  """
  last = jnp.sum(caption_mask) - 1
  last = jnp.maximum(jnp.where(hard, jnp.minimum(hard_pool, last), last), 1)
  rows, columns = (
    jax.random.randint(k, caption_mask.shape, 1, last + 1)
    for k in jax.random.split(key)
  )
  return rows, columns


def paired_triplet(
  scores: Float[Array, 'n n'],
  caption_mask: Bool[Array, ' n'],
  *,
  margin: float,
  row_rank: Int[Array, ' n'],
  column_rank: Int[Array, ' n'],
) -> Float[Array, ' n']:
  """Returns the triplet loss of each caption with the video it sees.

  max(0, margin + negative - S[i, i]) for a negative in row i and one in
  column i; other captions of the same video are negatives like any other.
  Source: docs/method.md, "Guided losses" (FTri).

  Args:
    scores: Column j is the video of caption j, as caption j looks at it.
    caption_mask: Real captions.
    margin: The margin.
    row_rank: Rank, from 1, of the negative in the descending row whose rank 0
      is the diagonal.
    column_rank: The same for the column.
  """
  size = len(scores)
  others = ~jnp.eye(size, dtype=bool) & caption_mask[None]
  positive = jnp.diagonal(scores)

  def side(table, rank):
    fixed = jnp.where(others, jax.lax.stop_gradient(table), MASKED)
    order = jnp.argsort(-fixed, axis=1)
    chosen = jnp.take_along_axis(order, rank[:, None] - 1, axis=1)
    negative = jnp.take_along_axis(table, chosen, axis=1)[:, 0]
    return jnp.where(
      jnp.any(others, axis=1),
      jax.nn.relu(margin + negative - positive),
      0.0,
    )

  return side(scores, row_rank) + side(scores.T, column_rank)
