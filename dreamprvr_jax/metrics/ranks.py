"""Ranks without sorting, on device."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def rank_of_target(
  scores: Float[Array, 'q v'],
  target: Int[Array, ' q'],
  valid: Bool[Array, ' v'],
) -> Int[Array, ' q']:
  """Returns 1 + #{greater} + #{equal with a lower index} of each row's target.

  Args:
    scores: Higher is better.
    target: Column of the right item.
    valid: Real columns.
  """
  own = jnp.take_along_axis(scores, target[:, None], axis=1)
  before = jnp.arange(scores.shape[1])[None] < target[:, None]
  ahead = (scores > own) | ((scores == own) & before)
  return 1 + jnp.sum(ahead & valid[None], axis=1, dtype=jnp.int32)


def rank_of_best_sibling(
  scores: Float[Array, 'q n'],
  row: Int[Array, ' q'],
  groups: Int[Array, ' n'],
  valid: Bool[Array, ' n'],
) -> Int[Array, ' q']:
  """Returns the best rank among other items of each row's group; 0 if none.

  Args:
    scores: Scores of items (rows) against all items (columns).
    row: Index of each row's item among the columns; it is left out.
    groups: Group of every item.
    valid: Real columns.
  """
  columns = jnp.arange(scores.shape[1])[None]
  other = valid[None] & (columns != row[:, None])
  sibling = other & (groups[None] == groups[row][:, None])
  stranger = other & ~sibling
  best = jnp.max(jnp.where(sibling, scores, -jnp.inf), axis=1, keepdims=True)
  first = jnp.argmax(jnp.where(sibling, scores, -jnp.inf), axis=1)
  ahead = (scores > best) | ((scores == best) & (columns < first[:, None]))
  rank = 1 + jnp.sum(ahead & stranger, axis=1, dtype=jnp.int32)
  return jnp.where(jnp.any(sibling, axis=1), rank, 0)
