"""Jitted programs that search blocks of stored videos on the devices."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from dreamprvr_jax.archive.index.layout import dequantize
from dreamprvr_jax.devices.meshes import CORPUS_AXIS, DATA_AXIS
from dreamprvr_jax.evaluation.ranking import fused, score_videos
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.numerics import l2_normalize
from dreamprvr_jax.types import BranchScores, DType, VideoEncoding

# Rows of an index are split over all devices, in order.
ROWS = PartitionSpec((DATA_AXIS, CORPUS_AXIS))
WHOLE = PartitionSpec()

# Arrays of a segment that a search reads, by the kind of its tokens: float16
# tokens; int8 codes times scales; int8 codes alone, for cosines, which ignore a
# token's scale.
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
}
# The kind of tokens of a first pass, by `Model.token_score`.
FIRST_PASSES = {
  'cosine': {'int8': 'codes'},
  'product': {'int8': 'int8'},
}
# The kind of float32 tokens, of unit length for cosines, computed from stored
# ones to search in the memory of a CPU, which converts float16 slowly.
UNITS = 'units'


def decode(stored: Mapping[str, Any], kind: str, dtype: DType) -> VideoEncoding:
  """Returns stored videos as a model's encoding.

  Args:
    stored: The arrays that `READS` names.
    kind: Key of `READS`.
    dtype: Type of the tokens.
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
  return fused(model, score_videos(model, variables, queries, videos))


def prepared(kind: str, queries: Any) -> Any:
  """Returns queries (n, q) in the form that `scores_of` takes, once for all
  blocks; `kind` is a key of `READS`, or `UNITS`."""
  return l2_normalize(queries) if kind == UNITS else queries


def scores_of(
  model: Model,
  kind: str,
  dtype: DType,
  variables: Any,
  queries: Any,
  stored: Mapping[str, Any],
) -> Float[Array, 'n b']:
  """Returns the scores by which videos are ranked, float32."""
  if kind != UNITS:
    return fused_scores(model, variables, queries, decode(stored, kind, dtype))
  clip, frame = (
    _best_products(queries, stored[f'{branch}_units'])
    for branch in ('clip', 'frame')
  )
  return fused(model, BranchScores(clip, frame))


def _best_products(
  queries: Float[Array, 'n d'], tokens: Float[Array, 'b s d']
) -> Float[Array, 'n b']:
  if len(queries) == 1:
    # A CPU reads one flat matrix at the speed of its memory.
    found = queries @ tokens.reshape(-1, tokens.shape[-1]).T
    return found.reshape(1, *tokens.shape[:2]).max(axis=-1)
  return jnp.einsum('bsd,nd->bsn', tokens, queries).max(axis=1).T


def token_dtype(model: Model, mesh: Mesh, kind: str) -> DType:
  """Returns the dtype that tokens are scored in."""
  if kind != 'codes':
    return model.dtype
  # Both types represent every int8; a CPU has no products of bfloat16.
  on_cpu = mesh.devices.flat[0].platform == 'cpu'
  return jnp.float32 if on_cpu else jnp.bfloat16


# Programs are kept, so that the next index of the same model finds them traced.
@functools.lru_cache(maxsize=8)
def compile_queries(model: Model, mesh: Mesh) -> Callable[..., Any]:
  """Returns the program from (variables, words, mask) to the encoded queries
  (n, q), jitted, whole on each device of the mesh."""

  def encode(variables, words, mask):
    return model.apply(variables, words, mask, method='encode_query')

  whole = NamedSharding(mesh, WHOLE)
  return jax.jit(encode, in_shardings=whole, out_shardings=whole)


@functools.lru_cache(maxsize=32)
def compile_search(
  model: Model, mesh: Mesh, *, kind: str, block: int, k: int
) -> Callable[..., Any]:
  """Returns the program that searches a part of an index, jitted over the
  mesh.

  It takes (variables, queries, stored, items, scores, videos): the model's
  variables, queries (n, q), the part's arrays and items (rows,), split over all
  devices, and the best scores and items (n, k) so far. It returns the best
  (n, k) including this part, by falling score, equal ones by rising item, and
  -1 where there is no video. A score that is NaN counts as infinite.

  Args:
    model: The model.
    mesh: The device mesh.
    kind: The kind of tokens, a key of `READS` or `UNITS`.
    block: Videos scored at a time; divides the rows of a device.
    k: Videos to find.
  """
  dtype = token_dtype(model, mesh, kind)

  def search(variables, queries, stored, items, scores, videos):
    queries = prepared(kind, queries)
    blocks = jax.tree.map(lambda x: x.reshape(-1, block, *x.shape[1:]), stored)

    def visit(best, part):
      stored, items = part
      found = scores_of(model, kind, dtype, variables, queries, stored)
      # A NaN comes out first, where the searcher checks for it.
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


@functools.lru_cache(maxsize=8)
def compile_scores(
  model: Model, mesh: Mesh, *, kind: str
) -> Callable[..., Any]:
  """Returns the program from (variables, queries, stored) to the fused scores
  (n, rows), jitted over the mesh, the rows split over all devices."""
  dtype = token_dtype(model, mesh, kind)

  def scores(variables, queries, stored):
    queries = prepared(kind, queries)
    return scores_of(model, kind, dtype, variables, queries, stored)

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
  """Returns the best k of both; of equal scores, those that come first."""
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
