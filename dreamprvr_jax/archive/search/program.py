"""Programs that search blocks of stored videos on the devices."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from dreamprvr_jax.archive.index import product
from dreamprvr_jax.archive.index.quantization import dequantize
from dreamprvr_jax.devices.parallel import CORPUS_AXIS, DATA_AXIS
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.numerics import l2_normalize
from dreamprvr_jax.types import DType, VideoEncoding

# Rows of an index are split over all devices, in their order.
ROWS = PartitionSpec((DATA_AXIS, CORPUS_AXIS))
WHOLE = PartitionSpec()

# Arrays of a segment that a search reads, by what it takes as tokens: the
# tokens; what codes and scales stand for; the bare codes, each token to a
# scale of its own, which cosines do not see; product codes.
READS = {
  'float16': ('clip_tokens', 'frame_tokens', 'frame_mask'),
  'int8': (
    'clip_codes',
    'clip_scales',
    'frame_codes',
    'frame_scales',
    'frame_mask',
  ),
  'codes': ('clip_codes', 'frame_codes', 'frame_mask'),
  'pq': ('clip_products', 'frame_products', 'frame_mask'),
}
# What is taken as tokens in a first pass.
FIRST_PASSES = {'int8': 'codes', 'pq': 'pq'}
# Tokens of unit length as float32: what is made of any of them for a search
# from the memory of a CPU, which widens float16 slowly.
UNITS = 'units'


def decode(stored: Mapping[str, Any], kind: str, dtype: DType) -> VideoEncoding:
  """Returns stored videos as a model's encoding.

  Args:
    stored: The arrays that `READS` names.
    kind: Key of `READS`.
    dtype: Of the tokens.
  """

  def tokens(branch: str) -> Any:
    if kind == 'float16':
      return stored[f'{branch}_tokens'].astype(dtype)
    codes = stored[f'{branch}_codes']
    if kind == 'codes':
      return codes.astype(dtype)
    return dequantize(codes, stored[f'{branch}_scales']).astype(dtype)

  return VideoEncoding(tokens('clip'), tokens('frame'), stored['frame_mask'])


def fused_scores(
  model: Model, variables: Any, queries: Any, videos: VideoEncoding
) -> Float[Array, 'n b']:
  """Returns the scores by which videos are ranked, float32."""
  # Of a model that computes in bfloat16 queries are bfloat16 numbers, too.
  queries = queries.astype(videos.frame_tokens.dtype)
  found: Any = model.apply(variables, queries, videos, method='score')
  return model.clip_weight * found.clip + model.frame_weight * found.frame


def prepared(kind: str, held: Any, queries: Any) -> Any:
  """Returns of queries what `scores_of` takes, computed once for all blocks.

  Args:
    kind: Key of `READS`, or `UNITS`.
    held: The model's variables; for product codes the codebooks.
    queries: (n, q).
  """
  if kind == 'pq':
    unit = l2_normalize(queries)
    return {name: product.tables(unit, book) for name, book in held.items()}
  return l2_normalize(queries) if kind == UNITS else queries


def scores_of(
  model: Model,
  kind: str,
  dtype: DType,
  held: Any,
  queries: Any,
  stored: Mapping[str, Any],
) -> Float[Array, 'n b']:
  """Returns the scores by which videos are ranked, float32."""
  if kind == 'pq':
    products = lambda branch: product.product_scores(
      queries[branch], stored[f'{branch}_products']
    )
    # Padded tokens are zero, and so are their cosines.
    frames = jnp.where(stored['frame_mask'], products('frame'), 0)
    clip, frame = products('clip').max(axis=-1), frames.max(axis=-1)
  elif kind == UNITS:
    clip, frame = (
      _best_products(queries, stored[f'{branch}_units'])
      for branch in ('clip', 'frame')
    )
  else:
    return fused_scores(model, held, queries, decode(stored, kind, dtype))
  return model.clip_weight * clip + model.frame_weight * frame


def _best_products(
  queries: Float[Array, 'n d'], tokens: Float[Array, 'b s d']
) -> Float[Array, 'n b']:
  if len(queries) == 1:
    # As one flat matrix, which a CPU reads at the speed of its memory.
    found = queries @ tokens.reshape(-1, tokens.shape[-1]).T
    return found.reshape(1, *tokens.shape[:2]).max(axis=-1)
  return jnp.einsum('bsd,nd->bsn', tokens, queries).max(axis=1).T


def token_dtype(model: Model, mesh: Mesh, kind: str) -> DType:
  """Returns the dtype that tokens are scored in."""
  if kind != 'codes':
    return model.dtype
  # Both hold all integers of a byte; a CPU has no products of bfloat16.
  on_cpu = mesh.devices.flat[0].platform == 'cpu'
  return jnp.float32 if on_cpu else jnp.bfloat16


def compile_search(
  model: Model, mesh: Mesh, *, kind: str, block: int, k: int
) -> Callable[..., Any]:
  """Returns the program that searches a part of an index, jitted over the
  mesh.

  From (held, queries, stored, items, scores, videos), with what `prepared`
  says is held, queries (n, q), the part's arrays and its items (rows,), split
  over all devices, and the best (n, k) so far; it gives the best (n, k) with
  this part, by falling score, equals by rising item, and -1 where there is no
  video. A score that is not a number counts as infinite.

  Args:
    model: The model.
    mesh: The device mesh.
    kind: What is taken as tokens, a key of `READS` or `UNITS`.
    block: Videos scored at a time; divides the rows of a device.
    k: How many are found.
  """
  dtype = token_dtype(model, mesh, kind)

  def search(held, queries, stored, items, scores, videos):
    queries = prepared(kind, held, queries)
    blocks = jax.tree.map(lambda x: x.reshape(-1, block, *x.shape[1:]), stored)

    def visit(best, part):
      stored, items = part
      found = scores_of(model, kind, dtype, held, queries, stored)
      # What is no number comes out first, where the searcher finds it.
      found = jnp.where(jnp.isnan(found), jnp.inf, found)
      found = jnp.where(items >= 0, found, -jnp.inf)
      items = jnp.broadcast_to(items, found.shape)
      return _merged(best, (found, items), k), None

    empty = (
      jnp.full(scores.shape, -jnp.inf, jnp.float32),
      jnp.full(videos.shape, -1, jnp.int32),
    )
    best, _ = jax.lax.scan(visit, empty, (blocks, items.reshape(-1, block)))
    best = jax.tree.map(
      lambda x: jax.lax.all_gather(
        x, (DATA_AXIS, CORPUS_AXIS), axis=1, tiled=True
      ),
      best,
    )
    return _merged((scores, videos), best, k)

  whole, rows = NamedSharding(mesh, WHOLE), NamedSharding(mesh, ROWS)
  return jax.jit(
    jax.shard_map(
      search,
      mesh=mesh,
      in_specs=(WHOLE, WHOLE, ROWS, ROWS, WHOLE, WHOLE),
      out_specs=(WHOLE, WHOLE),
      check_vma=False,
    ),
    in_shardings=(whole, whole, rows, rows, whole, whole),
    out_shardings=whole,
  )


def compile_scores(
  model: Model, mesh: Mesh, *, kind: str
) -> Callable[..., Any]:
  """Returns the program from (held, queries, stored) to the fused scores (n,
  rows), jitted over the mesh, the rows split over all devices."""
  dtype = token_dtype(model, mesh, kind)

  def scores(held, queries, stored):
    queries = prepared(kind, held, queries)
    return scores_of(model, kind, dtype, held, queries, stored)

  whole, rows = NamedSharding(mesh, WHOLE), NamedSharding(mesh, ROWS)
  return jax.jit(
    jax.shard_map(
      scores,
      mesh=mesh,
      in_specs=(WHOLE, WHOLE, ROWS),
      out_specs=PartitionSpec(None, *ROWS),
      check_vma=False,
    ),
    in_shardings=(whole, whole, rows),
    out_shardings=whole,
  )


def _merged(
  best: tuple[Float[Array, 'n k'], Int[Array, 'n k']],
  found: tuple[Float[Array, 'n m'], Int[Array, 'n m']],
  k: int,
) -> tuple[Float[Array, 'n k'], Int[Array, 'n k']]:
  """Returns the best k of both; of equals those that come first."""
  scores = jnp.concatenate([best[0], found[0]], axis=1)
  items = jnp.concatenate([best[1], found[1]], axis=1)
  scores, places = jax.lax.top_k(scores, k)
  return scores, jnp.take_along_axis(items, places, axis=1)


def best_of(
  scores: Float[np.ndarray, 'n m'], items: Int[np.ndarray, 'n m'], k: int
) -> tuple[Float[np.ndarray, 'n k'], Int[np.ndarray, 'n k']]:
  """Returns the best k of each row, on the host."""
  order = np.lexsort((items, -scores), axis=1)[:, :k]
  take = lambda x: np.take_along_axis(x, order, axis=1)
  return take(scores), take(items)
