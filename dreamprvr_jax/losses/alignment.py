"""Cross-branch alignment inside a video: frames and merged clips (MSC).

Source: docs/method.md, "Cross-branch alignment" (CBVA).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dreamprvr_jax.numerics import MASKED

_EPSILON = 1e-8


def merged_clips(
  clips: Float[Array, 'b c d'],
  sizes: Int[Array, 'b c'],
  groups: Int[Array, 'b c'],
) -> Float[Array, 'b c d']:
  """Returns the size-weighted mean of each group of clips, zero for empty
  groups."""
  member = jax.nn.one_hot(groups, clips.shape[1], axis=1) * sizes[:, None]
  total = jnp.sum(member, axis=2, keepdims=True)
  return jnp.einsum('bsc,bcd->bsd', member / jnp.maximum(total, 1), clips)


def frame_groups(
  sizes: Int[Array, 'b c'], groups: Int[Array, 'b c'], num_frames: int
) -> Int[Array, 'b f']:
  """Returns the group of each frame; clip i has the next sizes[i] frames."""
  ends = jnp.cumsum(sizes, axis=1)
  frame = jnp.arange(num_frames)
  clip = jnp.sum(ends[:, None] <= frame[:, None], axis=2)
  clip = jnp.minimum(clip, sizes.shape[1] - 1)
  return jnp.take_along_axis(groups, clip, axis=1)


def cross_branch(
  clips: Float[Array, 'b c d'],
  frames: Float[Array, 'b f d'],
  *,
  sizes: Int[Array, 'b c'],
  groups: Int[Array, 'b c'],
) -> Float[Array, ' b']:
  """Returns the alignment loss of each video: frame to clip, clip to frame.

  As released, products are raw and without temperature, and positives and
  negatives are averaged, not summed. Gradients of the first half reach the
  frames only, those of the second the clips only.

  Args:
    clips: Projected clip tokens.
    frames: Projected frame tokens, all real.
    sizes: Frames of each clip; they add up to f.
    groups: Merged clip of each clip, numbered from 0 without gaps.
  """
  merged = merged_clips(clips, sizes, groups)
  count = jnp.max(groups, axis=1) + 1
  real = jnp.arange(clips.shape[1]) < count[:, None]
  own = jax.nn.one_hot(
    frame_groups(sizes, groups, frames.shape[1]), clips.shape[1], dtype=bool
  )
  stop = jax.lax.stop_gradient

  def exponentials(logits, mask, axis):
    logits = jnp.where(mask, logits, MASKED)
    return jnp.exp(logits - stop(jnp.max(logits, axis=axis, keepdims=True)))

  mask = jnp.broadcast_to(real[:, None], own.shape)
  to_clips = jnp.einsum('bfd,bsd->bfs', frames, stop(merged))
  e = exponentials(to_clips, mask, 2)
  positive = jnp.sum(jnp.where(own, e, 0.0), axis=2) / (1 + _EPSILON)
  negative = jnp.sum(jnp.where(mask & ~own, e, 0.0), axis=2)
  negative = negative / (count[:, None] - 1 + _EPSILON)
  share = positive / (positive + negative + _EPSILON)
  first = jnp.mean(-jnp.log(share), axis=1)

  to_frames = jnp.einsum('bfd,bsd->bfs', stop(frames), merged)
  e = exponentials(to_frames, mask, 1)
  mean = lambda part: (
    jnp.sum(jnp.where(part, e, 0.0), axis=1)
    / (jnp.sum(part, axis=1) + _EPSILON)
  )
  positive, negative = mean(own), mean(mask & ~own)
  # Missing clips get the share 1, whose logarithm is 0.
  total = jnp.where(real, positive + negative, 1.0)
  share = jnp.where(real, positive / total, 1.0)
  second = jnp.sum(-jnp.log(share), axis=1) / jnp.maximum(count, 1)
  return first + second
