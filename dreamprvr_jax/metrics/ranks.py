"""Ranks without sorting, on device.

Columns may be split over a mesh axis. The functions then run inside
`jax.shard_map` and take the name of the axis.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def own_score(
  scores: Float[Array, '*k q v'],
  target: Int[Array, '*#k q'],
  items: Int[Array, '*k v'],
  *,
  axis: str | None = None,
) -> Float[Array, '*k q']:
  """Returns the score of each row's target; -inf if no column has it.

  Args:
    scores: Higher is better.
    target: The right item.
    items: Item of each column, -1 for padding.
    axis: Mesh axis that splits the columns; None if they are not split.
  """
  right = items[..., None, :] == target[..., None]
  found = jnp.max(jnp.where(right, scores, -jnp.inf), axis=-1)
  return found if axis is None else jax.lax.pmax(found, axis)


def count_ahead(
  scores: Float[Array, '*k q v'],
  own: Float[Array, '*k q'],
  target: Int[Array, '*#k q'],
  items: Int[Array, '*k v'],
  *,
  axis: str | None = None,
) -> Int[Array, '*k q']:
  """Returns #{greater} + #{equal with a lower item} of each row's target.

  If the target's score is NaN, everything is ahead of it.

  Args:
    scores: Higher is better.
    own: The target's score, as `own_score` returns it.
    target: The right item.
    items: Item of each column, -1 for padding.
    axis: Mesh axis that splits the columns; None if they are not split.
  """
  own, items = own[..., None], items[..., None, :]
  behind = jnp.where(items < target[..., None], scores < own, scores <= own)
  ahead = jnp.sum((items >= 0) & ~behind, axis=-1, dtype=jnp.int32)
  return ahead if axis is None else jax.lax.psum(ahead, axis)


def ranks_of(
  scores: Float[np.ndarray, 'n v'], right: Int[np.ndarray, ' n']
) -> Int[np.ndarray, ' n']:
  """Returns the rank of each row's right column, from 1, on the host: 1 +
  #{greater} + #{equal with a lower index}, and last if its score is NaN."""
  columns = np.arange(scores.shape[1])
  own = np.take_along_axis(scores, right[:, None], axis=1)
  behind = (
    np.sum(np.where(columns < r, row < mine, row <= mine))
    for row, mine, r in zip(scores, own[:, 0], right, strict=True)
  )
  return 1 + len(columns) - np.fromiter(behind, np.int64, len(scores))


def rank_of_best_sibling(
  scores: Float[Array, 'q n'],
  row: Int[Array, ' q'],
  row_group: Int[Array, ' q'],
  items: Int[Array, ' n'],
  groups: Int[Array, ' n'],
  *,
  axis: str | None = None,
) -> Int[Array, ' q']:
  """Returns the best rank among other items of each row's group; 0 if none.

  Args:
    scores: Scores of items (rows) against items (columns).
    row: Each row's item; it does not compete.
    row_group: Its group.
    items: Item of each column, in rising order.
    groups: Group of each column, -1 for padding.
    axis: Mesh axis that splits the columns; None if they are not split.
  """
  other = (groups >= 0) & (items != row[:, None])
  sibling = other & (groups == row_group[:, None])
  best = jnp.max(jnp.where(sibling, scores, -jnp.inf), axis=1)
  if axis is not None:
    best = jax.lax.pmax(best, axis)
  is_best = sibling & (scores == best[:, None])
  last = jnp.iinfo(jnp.int32).max
  first = jnp.min(jnp.where(is_best, items, last), axis=1)
  if axis is not None:
    first = jax.lax.pmin(first, axis)
  strangers = jnp.where(other & ~sibling, items, -1)
  ahead = count_ahead(
    scores[:, None], best[:, None], first[:, None], strangers, axis=axis
  )
  return jnp.where(first < last, 1 + ahead[:, 0], 0)
