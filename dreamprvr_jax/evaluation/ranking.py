"""Programs that rank blocks of encoded queries.

Each device scores its share of the queries against its share of the corpus.
Devices exchange the scores of the right videos, the numbers of videos ahead of
them and, for text to text, the queries.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from dreamprvr_jax.devices.meshes import CORPUS_AXIS, DATA_AXIS
from dreamprvr_jax.evaluation.corpus import from_bits
from dreamprvr_jax.metrics.ranks import (
  count_ahead,
  own_score,
  rank_of_best_sibling,
)
from dreamprvr_jax.models.base import RetrievalModel, similarities
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.types import BranchScores, VideoEncoding

BRANCHES = ('clip', 'frame', 'fused')
# Shardings of blocks of queries, of rows of the corpus, and of whole copies.
BLOCKS = PartitionSpec(None, DATA_AXIS)
ROWS = PartitionSpec(CORPUS_AXIS)
WHOLE = PartitionSpec()


def score_videos(
  model: Any,
  variables: Any,
  queries: Float[Array, 'n q'],
  videos: VideoEncoding,
) -> BranchScores:
  """Returns the scores (n, v) of encoded queries with encoded videos."""
  # A model that computes in bfloat16 makes bfloat16 queries: nothing is lost,
  # and the products need no wider tokens.
  queries = queries.astype(videos.frame_tokens.dtype)
  is_trained = issubclass(type(model), RetrievalModel)
  if is_trained and model.token_score == 'cosine':
    return similarities(queries, videos).cosine
  return model.apply(variables, queries, videos, method='score')


def fused(model: Any, scores: BranchScores) -> Float[Array, 'n v']:
  """Returns the scores by which videos are ranked: both branches, weighted, and
  what the model adds to them."""
  both = model.clip_weight * scores.clip + model.frame_weight * scores.frame
  return both if scores.addition is None else both + scores.addition


# Kept, so that the next caller with the same model finds it traced.
@functools.lru_cache(maxsize=32)
def compile_ranking(
  model: Model, mesh: Mesh, *, block: int, keep_scores: bool = False
) -> Callable[..., Any]:
  """Returns the program that ranks some blocks of queries, jitted over the
  mesh.

  It takes (variables, videos, items, queries, start, target, own, counted):
  `videos` and `items` as in `Part`, all queries (k, q, d), and the first of g
  blocks to rank. For these blocks, `target` (g, q) has the right videos, `own`
  (g, 3, q) their scores by branch, -inf where unknown, and `counted` (g, q)
  says for which queries the videos ahead are counted. It returns the right
  videos' scores and the numbers of videos ahead of them, (g, 3, q) each, and
  with `keep_scores` the fused scores (g, q, rows).

  Args:
    model: The model.
    mesh: The device mesh.
    block: Videos scored at a time; divides the rows of a device.
    keep_scores: Whether the fused scores are returned, too.
  """

  def score(variables, queries, stored):
    found = score_videos(model, variables, queries, from_bits(stored))
    return jnp.stack([found.clip, found.frame, fused(model, found)])

  def rank(variables, videos, items, queries, start, target, own, counted):
    blocks = jax.tree.map(lambda x: x.reshape(-1, block, *x.shape[1:]), videos)
    items = items.reshape(-1, block)
    queries = jax.lax.dynamic_slice_in_dim(queries, start, len(target))

    def rank_block(queries, target, own, counted):
      # All scores of the block first, (blocks, 3, q, videos in a block): the
      # right video's score must be the number that others are compared with.
      scores = jax.lax.map(lambda x: score(variables, queries, x), blocks)
      own, ahead = _counts(scores, items, target, own)
      ahead = jnp.where(counted, ahead, 0)
      if not keep_scores:
        return own, ahead
      kept = jnp.moveaxis(scores[:, BRANCHES.index('fused')], 0, 1)
      return own, ahead, kept.reshape(len(queries), -1)

    return jax.lax.map(
      lambda x: rank_block(*x), (queries, target, own, counted)
    )

  by_branch = PartitionSpec(None, None, DATA_AXIS)
  kept = (PartitionSpec(None, DATA_AXIS, CORPUS_AXIS),) if keep_scores else ()
  whole = NamedSharding(mesh, WHOLE)
  rows, blocks = NamedSharding(mesh, ROWS), NamedSharding(mesh, BLOCKS)
  return jax.jit(
    jax.shard_map(
      rank,
      mesh=mesh,
      in_specs=(
        WHOLE,
        ROWS,
        ROWS,
        BLOCKS,
        WHOLE,
        BLOCKS,
        by_branch,
        BLOCKS,
      ),
      out_specs=(by_branch, by_branch, *kept),
      check_vma=False,
    ),
    in_shardings=(whole, rows, whole, blocks, *[whole] * 4),
    # The host of every process reads them.
    out_shardings=whole,
  )


def _counts(
  scores: Float[Array, 'k 3 q b'],
  items: Int[Array, 'k b'],
  target: Int[Array, ' q'],
  own: Float[Array, '3 q'],
) -> tuple[Float[Array, '3 q'], Int[Array, '3 q']]:
  """Returns the right videos' scores and the numbers of videos ahead of them.

  Args:
    scores: Scores of this device's videos, in k blocks.
    items: Video of each row, -1 for padding.
    target: The right videos.
    own: Their scores, -inf where unknown.
  """

  def find(own, block):
    return jnp.maximum(own, own_score(block[0], target, block[1])), None

  own, _ = jax.lax.scan(find, own, (scores, items))
  own = jax.lax.pmax(own, CORPUS_AXIS)

  def count(ahead, block):
    return ahead + count_ahead(block[0], own, target, block[1]), None

  ahead = jnp.zeros(own.shape, jnp.int32)
  ahead, _ = jax.lax.scan(count, ahead, (scores, items))
  return own, jax.lax.psum(ahead, CORPUS_AXIS)


@functools.lru_cache(maxsize=32)
def compile_text_ranking(mesh: Mesh) -> Callable[..., Any]:
  """Returns the program that ranks some blocks of queries among all queries,
  jitted over the mesh.

  It takes (queries, start, rows, row_groups, columns, items, groups): all
  queries, normalized, (k, q, d), the first of g blocks to rank, the index and
  group of each query in these blocks (g, q), and all queries again as columns
  (n, d) with their indices and groups (n,). It returns the ranks (g, q).

  Args:
    mesh: The device mesh.
  """

  def rank(queries, start, rows, row_groups, columns, items, groups):
    queries = jax.lax.dynamic_slice_in_dim(queries, start, len(rows))
    return jax.lax.map(
      lambda x: rank_of_best_sibling(
        x[0] @ columns.T, x[1], x[2], items, groups, axis=CORPUS_AXIS
      ),
      (queries, rows, row_groups),
    )

  whole = NamedSharding(mesh, WHOLE)
  columns, blocks = NamedSharding(mesh, ROWS), NamedSharding(mesh, BLOCKS)
  return jax.jit(
    jax.shard_map(
      rank,
      mesh=mesh,
      in_specs=(BLOCKS, WHOLE, BLOCKS, BLOCKS, ROWS, ROWS, ROWS),
      out_specs=BLOCKS,
      check_vma=False,
    ),
    in_shardings=(blocks, whole, whole, whole, columns, whole, whole),
    out_shardings=whole,
  )
