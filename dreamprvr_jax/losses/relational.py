"""Text correlation preservation: relations of a frozen teacher (MSC).

Source: docs/method.md, "Relations to a teacher". Distances and angles between
the queries of a batch should match those between the teacher's vectors.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def _smooth_l1(x: Float[Array, '...']) -> Float[Array, '...']:
  size = jnp.abs(x)
  return jnp.where(size < 1, 0.5 * x * x, size - 0.5)


def _distances(
  x: Float[Array, 'n d'], pairs: Bool[Array, 'n n']
) -> Float[Array, 'n n']:
  """Returns pairwise distances divided by their mean, 0 outside of `pairs`."""
  square = jnp.sum(x * x, axis=1)
  # As released, with its cancellation; the floor keeps it positive.
  expanded = square[:, None] + square[None] - 2 * x @ x.T
  distance = jnp.sqrt(jnp.maximum(jnp.where(pairs, expanded, 1.0), 1e-12))
  distance = jnp.where(pairs, distance, 0.0)
  mean = jnp.sum(distance) / jnp.maximum(jnp.sum(pairs), 1)
  return distance / jnp.where(mean > 0, mean, 1.0)


def _directions(x: Float[Array, 'n d']) -> Float[Array, 'n d']:
  """Returns x / |x|; a zero row stays zero and has gradient 0."""
  square = jnp.sum(x * x, axis=1, keepdims=True)
  some = square > 0
  return jnp.where(some, x * jax.lax.rsqrt(jnp.where(some, square, 1.0)), 0.0)


def distance_error(
  student: Float[Array, 'n d'],
  teacher: Float[Array, 'n e'],
  mask: Bool[Array, ' n'],
) -> Float[Array, '']:
  """Returns the mean error of the distances, over all pairs (i, j).

  Args:
    student: Un-normalised query vectors.
    teacher: Vectors of the frozen text model; no gradient.
    mask: Real queries.
  """
  pairs = mask[:, None] & mask[None] & ~jnp.eye(len(mask), dtype=bool)
  teacher = jax.lax.stop_gradient(teacher)
  error = _smooth_l1(_distances(teacher, pairs) - _distances(student, pairs))
  return jnp.sum(error) / jnp.maximum(jnp.square(jnp.sum(mask)), 1)


def angle_error(
  student: Float[Array, 'n d'],
  teacher: Float[Array, 'n e'],
  mask: Bool[Array, ' n'],
) -> Float[Array, '']:
  """Returns the mean error of the angles' cosines, over all triples.

  Vertices are taken one at a time and recomputed for the gradient, so that
  memory is n^2 numbers instead of n^3.

  Args:
    student: Un-normalised query vectors.
    teacher: Vectors of the frozen text model; no gradient.
    mask: Real queries.
  """
  student, teacher, mask = map(jnp.asarray, (student, teacher, mask))
  teacher = jax.lax.stop_gradient(teacher)
  real = mask[:, None] & mask[None]

  @jax.checkpoint
  def at(vertex: Float[Array, '']) -> Float[Array, '']:
    cosines = []
    for x in (teacher, student):
      directions = _directions(x - x[vertex])
      cosines.append(directions @ directions.T)
    error = jnp.where(real, _smooth_l1(cosines[0] - cosines[1]), 0.0)
    return jnp.where(mask[vertex], jnp.sum(error), 0.0)

  total = jnp.sum(jax.lax.map(at, jnp.arange(len(mask))))
  count = jnp.sum(mask).astype(jnp.float32)
  return total / jnp.maximum(count**3, 1)
