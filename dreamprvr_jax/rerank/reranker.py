"""Scores of lists of candidates by a re-ranker."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from dreamprvr_jax import rng
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.progress import Watch
from dreamprvr_jax.rerank.features import RerankFeatures, place
from dreamprvr_jax.rerank.networks import RerankModel

# Lists at a time, over all devices.
_CHUNK = 64


class Reranker:
  """A re-ranker on one split; its programs are compiled once.

  Lists are split over the devices; each has the features of the whole split.
  """

  def __init__(
    self,
    model: RerankModel,
    mesh: Mesh,
    features: RerankFeatures,
    *,
    seed: int,
    chunk: int = _CHUNK,
  ):
    """Places the features.

    Args:
      model: The re-ranker.
      mesh: The device mesh.
      features: Those of the split.
      seed: Seed of the noise that sampling starts from.
      chunk: Lists at a time; results do not depend on it.
    """
    self._mesh, self._seed = mesh, seed
    self._chunk = -(-chunk // mesh.size) * mesh.size
    self._features = place(features, meshes.replicated(mesh))
    self._run = _program(model, mesh)

  def __call__(
    self,
    variables: Any,
    lists: Int[np.ndarray, 'n k'],
    *,
    how: str = 'sample',
    num_steps: int = 10,
    noise: int = 0,
    watch: Watch | None = None,
  ) -> Float[np.ndarray, 'n k']:
    """Returns the scores of the candidates of all queries of the split.

    Args:
      variables: The network's variables.
      lists: Candidates of each query.
      how: See `RerankModel.scores`.
      num_steps: Steps of DDIM.
      noise: Number of the noise seed.
      watch: Progress bars, and whether to stop.
    """
    count, size = len(lists), self._chunk
    watch = watch or Watch(show=False)
    # The last chunk is filled up with the first queries.
    rows = np.arange(-(-count // size) * size) % count
    key = rng.stream_key(self._seed, 'rerank', noise)
    found = []
    for start in watch(range(0, len(rows), size), 're-ranking'):
      chunk = jnp.asarray(rows[start : start + size], jnp.int32)
      found.append(
        self._run(
          variables,
          self._features,
          key,
          chunk,
          jnp.asarray(lists[np.asarray(chunk)], jnp.int32),
          how,
          num_steps,
        )
      )
      jax.block_until_ready(found[-2:-1])
    return np.concatenate([np.asarray(x) for x in found])[:count]


# Kept, so that all re-rankers of a command share it.
@functools.lru_cache(maxsize=4)
def _program(model: RerankModel, mesh: Mesh) -> Callable[..., Any]:
  """Returns the jitted program from (variables, features, key, rows, lists) to
  scores, over the mesh."""
  whole, by_row = meshes.replicated(mesh), meshes.by_row(mesh)

  @functools.partial(
    jax.jit,
    static_argnames=('how', 'num_steps'),
    in_shardings=(whole, whole, whole, by_row, by_row),
    out_shardings=whole,
  )
  def run(variables, features, key, rows, lists, how, num_steps):
    return model.scores(
      variables,
      key,
      rows,
      features.inputs(rows, lists),
      how=how,
      num_steps=num_steps,
    )

  return run
