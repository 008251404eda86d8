"""Programs that rank blocks of encoded queries.

Each device scores its share of the queries against its share of the corpus.
Between devices travel the scores of the right videos, the numbers of videos
ahead of them and, for text to text, the queries.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dreamprvr_jax.devices.parallel import CORPUS_AXIS, DATA_AXIS
from dreamprvr_jax.evaluation.corpus import from_bits
from dreamprvr_jax.metrics.ranks import (
  count_ahead,
  own_score,
  rank_of_best_sibling,
)
from dreamprvr_jax.models.contract import Model

BRANCHES = ('clip', 'frame', 'fused')
# Blocks of queries, rows of the corpus, what is the same everywhere.
BLOCKS = PartitionSpec(None, DATA_AXIS)
ROWS = PartitionSpec(CORPUS_AXIS)
WHOLE = PartitionSpec()


def compile_ranking(
  model: Model, mesh: Mesh, *, block: int, keep_scores: bool = False
) -> Callable[..., Any]:
  """Returns the program that ranks some blocks of queries, jitted over the
  mesh.

  From (variables, videos, items, queries, start, target, own, counted), with
  videos and items as in `Part`, all queries (k, q, d), the first block that
  is ranked, and of g blocks the right videos (g, q), their scores by branch
  (g, 3, q), -inf where not known, and (g, q) whose videos ahead are counted.
  It gives the right videos' scores and the numbers of videos ahead of them,
  (g, 3, q) each, and if `keep_scores` the fused scores (g, q, rows).

  Args:
    model: The model.
    mesh: The device mesh.
    block: Videos scored at a time; divides the rows of a device.
    keep_scores: Whether the fused scores are given, too.
  """

  def score(variables, queries, stored):
    videos = from_bits(stored)
    # Of a model that computes in bfloat16 queries are bfloat16 numbers, too:
    # nothing is lost, and the products need no wider tokens.
    queries = queries.astype(videos.frame_tokens.dtype)
    found: Any = model.apply(variables, queries, videos, method='score')
    fused = model.clip_weight * found.clip + model.frame_weight * found.frame
    return jnp.stack([found.clip, found.frame, fused])

  def rank(variables, videos, items, queries, start, target, own, counted):
    blocks = jax.tree.map(lambda x: x.reshape(-1, block, *x.shape[1:]), videos)
    items = items.reshape(-1, block)
    queries = jax.lax.dynamic_slice_in_dim(queries, start, len(target))

    def rank_block(queries, target, own, counted):
      # All scores of the block first, (blocks, 3, q, videos in a block): a
      # right video's must be the very number that others are compared with.
      scores = jax.lax.map(lambda x: score(variables, queries, x), blocks)

      def find(own, block):
        return jnp.maximum(own, own_score(block[0], target, block[1])), None

      own, _ = jax.lax.scan(find, own, (scores, items))
      own = jax.lax.pmax(own, CORPUS_AXIS)

      def count(ahead, block):
        return ahead + count_ahead(block[0], own, target, block[1]), None

      ahead = jnp.zeros(own.shape, jnp.int32)
      ahead, _ = jax.lax.scan(count, ahead, (scores, items))
      ahead = jnp.where(counted, jax.lax.psum(ahead, CORPUS_AXIS), 0)
      if not keep_scores:
        return own, ahead
      fused = jnp.moveaxis(scores[:, BRANCHES.index('fused')], 0, 1)
      return own, ahead, fused.reshape(len(queries), -1)

    return jax.lax.map(
      lambda x: rank_block(*x), (queries, target, own, counted)
    )

  by_branch = PartitionSpec(None, None, DATA_AXIS)
  fused = (PartitionSpec(None, DATA_AXIS, CORPUS_AXIS),) if keep_scores else ()
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
      out_specs=(by_branch, by_branch, *fused),
      check_vma=False,
    ),
    in_shardings=(whole, rows, whole, blocks, *[whole] * 4),
    # A host reads them, of each process.
    out_shardings=whole,
  )


def compile_text_ranking(mesh: Mesh) -> Callable[..., Any]:
  """Returns the program that ranks some blocks of queries among all queries,
  jitted over the mesh.

  From (queries, start, rows, row_groups, columns, items, groups), with all
  queries normalized (k, q, d), the first block that is ranked, of g blocks
  the index and group of each query (g, q), and all queries as columns (n, d)
  with their indices and groups (n,). It gives the ranks (g, q).

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
