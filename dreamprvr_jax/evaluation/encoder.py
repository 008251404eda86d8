"""Encoding a whole corpus and its queries on the devices."""

import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.devices.memory import free_memory
from dreamprvr_jax.devices.meshes import CORPUS_AXIS, DATA_AXIS
from dreamprvr_jax.devices.pace import Pace
from dreamprvr_jax.devices.resident import (
  ResidentSplit,
  read_captions,
  read_videos,
)
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.evaluation.corpus import (
  EncodedCorpus,
  Layout,
  Part,
  to_bits,
)
from dreamprvr_jax.evaluation.task import Batches, RetrievalTask
from dreamprvr_jax.host_memory import size_text
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.progress import Watch
from dreamprvr_jax.types import VideoEncoding

_log = logging.getLogger(__name__)

_ROW_MASKS = ('video_mask', 'caption_mask')


@dataclasses.dataclass(frozen=True)
class _Plan:
  """How the corpus is cut, and memory for one part of it."""

  layout: Layout
  blank: Callable[[], VideoEncoding]  # zeros for the rows of all devices


class Encoder:
  """Encodes the videos and the queries of a task.

  Features in device memory are encoded in one call if the pace allows it.
  Others are encoded batch by batch, while the next batch is copied.
  """

  def __init__(
    self,
    model: Model,
    mesh: Mesh,
    task: RetrievalTask,
    corpus_share: float,
    pace: Pace,
  ):
    if not 0 < corpus_share <= 1:
      raise UserError(
        f'config.eval.corpus_share is {corpus_share}; give a share of the free '
        'device memory, above 0 and at most 1'
      )
    self._model, self._mesh, self._task = model, mesh, task
    self._share, self._products = corpus_share, pace.products
    self._at_once = task.resident is not None and pace.encode_at_once
    self._videos, self._queries = compile_encoding(
      model, mesh, resident=task.resident is not None
    )
    self._join = jax.jit(
      lambda parts: jnp.concatenate(parts),
      out_shardings=NamedSharding(mesh, PartitionSpec(None, DATA_AXIS)),
    )
    self._plan: _Plan | None = None

  def queries(self, variables: Any, watch: Watch) -> Float[Array, 'k q d']:
    """Returns all encoded queries in k blocks of q rows.

    Args:
      variables: The model's variables, replicated over the mesh.
      watch: Progress bars, and whether to stop.

    Returns:
      (k, q, d), split over the data axis, with padding rows at the end.

    Raises:
      Stopped: If the caller asks to stop.
    """
    task = self._task
    rows = _batches_of(
      len(task.caption_ids), task.num_query_batches, task.query_batch
    )
    group = len(rows) if self._at_once else 1
    what = f'encoding queries ({task.name})'
    parts = []
    for source in self._sources(task.query_batches, rows, group, what, watch):
      parts.append(self._queries(variables, task.resident, source))
      jax.block_until_ready(parts[-2:-1])
    return parts[0] if len(parts) == 1 else self._join(parts)

  def corpus(self, variables: Any, watch: Watch) -> EncodedCorpus:
    """Returns the encoded corpus, in parts if it does not fit into memory.

    A part is encoded when it is read.
    """
    if self._plan is None:
      self._plan = self._make_plan(variables)
    plan = self._plan
    return EncodedCorpus(
      plan.layout, lambda: self._parts(variables, plan, watch), self._mesh
    )

  def _make_plan(self, variables: Any) -> _Plan:
    """Returns the layout that fits into the free memory, and logs it."""
    task, mesh = self._task, self._mesh
    source: Any = np.zeros(1, np.int32)
    if task.resident is None:
      source = dict(next(iter(task.video_batches())))
    encoding = _encoding_shapes(self._model, variables, task.resident, source)
    leaves = jax.tree.leaves(encoding)
    num_bytes = sum(x.size * x.dtype.itemsize // len(x) for x in leaves)
    num_tokens = sum(x.shape[1] for x in leaves if x.ndim == 3)
    queries = task.query_batch // mesh.shape[DATA_AXIS]
    free = free_memory(mesh)
    layout = Layout.plan(
      len(task.video_ids),
      task.video_batch,
      mesh,
      largest_block=self._products // (queries * num_tokens),
      rows_in_memory=self._share * free / num_bytes,
    )
    _log.info(
      '%s: a device has %s of encoded videos (%s are free), %s',
      task.name,
      size_text(layout.rows * num_bytes),
      size_text(free),
      'its share of the corpus'
      if layout.parts == 1
      else f'one of {layout.parts} parts; all but the last are encoded twice',
    )
    rows = layout.rows * mesh.shape[CORPUS_AXIS]
    blank = jax.jit(
      lambda: jax.tree.map(
        lambda x: jnp.zeros((rows, *x.shape[1:]), x.dtype), encoding
      ),
      out_shardings=NamedSharding(mesh, PartitionSpec(CORPUS_AXIS)),
    )
    return _Plan(layout, blank)

  def _parts(self, variables: Any, plan: _Plan, watch: Watch) -> Iterator[Part]:
    task, mesh, layout = self._task, self._mesh, plan.layout
    rows = _batches_of(
      layout.num_videos, layout.parts * layout.batches, layout.batch
    )
    group = layout.batches if self._at_once else 1
    what = f'encoding videos ({task.name})'
    sources = self._sources(task.video_batches, rows, group, what, watch)
    videos = plan.blank()
    # Like the positions that the program returns: a number of the host would
    # make it another program.
    start = meshes.replicate(np.int32(0), mesh)
    for part in range(layout.parts):
      # The last part reads to the end, so that the bar closes.
      is_last = part == layout.parts - 1
      calls = None if is_last else layout.batches // group
      position = start
      for source in itertools.islice(sources, calls):
        before = position
        videos, position = self._videos(
          variables, task.resident, source, videos, position
        )
        jax.block_until_ready(before)
      yield Part(videos, layout.items(part, mesh), *layout.bounds(part))

  def _sources(
    self,
    batches: Batches,
    rows: Int[np.ndarray, 'k b'],
    group: int,
    what: str,
    watch: Watch,
  ) -> Iterator[Any]:
    """Yields the input of each call: a batch, or rows of the split."""
    if self._task.resident is not None:
      groups = [rows[i : i + group] for i in range(0, len(rows), group)]
      yield from watch(groups, what)
      return
    for batch in watch(batches(), what, len(rows)):
      # Encoding does not read the masks of padding rows.
      used = {k: v for k, v in batch.items() if k not in _ROW_MASKS}
      yield meshes.shard_rows(used, self._mesh)


# Kept, so that the next caller with the same model finds it traced.
@functools.lru_cache(maxsize=32)
def compile_encoding(
  model: Model, mesh: Mesh, *, resident: bool
) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """Returns the programs that encode videos and queries, jitted over the mesh.

  The first takes (variables, split, source, videos, position). It writes the
  encoded videos of `source` into `videos`, which is donated, from `position`
  on each device, and returns both, the position moved on. The second takes
  (variables, split, source) and returns the queries (batches, q, d).

  Args:
    model: The model.
    mesh: The device mesh.
    resident: Whether `split` is a `ResidentSplit` and `source` rows of it,
      (batches, b); else `split` is None and `source` a batch of features.
  """

  whole, corpus = PartitionSpec(), PartitionSpec(CORPUS_AXIS)
  blocks = PartitionSpec(None, DATA_AXIS)
  rows = PartitionSpec((DATA_AXIS, CORPUS_AXIS))
  if resident:
    rows = PartitionSpec(None, *rows)
  sharded = lambda spec: NamedSharding(mesh, spec)
  # Rows of a split come from the host and are the same on all processes.
  source = sharded(whole if resident else rows)
  return (
    jax.jit(
      jax.shard_map(
        _video_program(model, resident),
        mesh=mesh,
        in_specs=(whole, whole, rows, corpus, whole),
        out_specs=(corpus, whole),
        check_vma=False,
      ),
      in_shardings=(
        sharded(whole),
        sharded(whole),
        source,
        sharded(corpus),
        sharded(whole),
      ),
      donate_argnums=(3,),
    ),
    jax.jit(
      jax.shard_map(
        _query_program(model, resident),
        mesh=mesh,
        in_specs=(whole, whole, rows),
        out_specs=blocks,
        check_vma=False,
      ),
      in_shardings=(sharded(whole), sharded(whole), source),
    ),
  )


def _video_program(model: Any, resident: bool) -> Callable[..., Any]:
  """Returns the first program of `compile_encoding`, for one device."""

  def videos(variables, split, source, videos, position):
    def append(carry, source):
      videos, position = carry
      found = jax.tree.map(
        lambda x: jax.lax.all_gather(x, DATA_AXIS, axis=0, tiled=True),
        _encode_videos(model, variables, split, source),
      )
      videos = jax.tree.map(
        lambda whole, x: jax.lax.dynamic_update_slice_in_dim(
          whole, x, position, axis=0
        ),
        videos,
        found,
      )
      return (videos, position + len(found.frame_mask)), None

    carry = (videos, position)
    if resident:
      return jax.lax.scan(append, carry, source)[0]
    return append(carry, source)[0]

  return videos


def _query_program(model: Any, resident: bool) -> Callable[..., Any]:
  """Returns the second program of `compile_encoding`, for one device."""

  def queries(variables, split, source):
    def encode(source):
      found = _encode_queries(model, variables, split, source)
      return jax.lax.all_gather(found, CORPUS_AXIS, axis=0, tiled=True)

    if resident:
      return jax.lax.map(encode, source)
    return encode(source)[None]

  return queries


def _encode_videos(
  model: Model, variables: Any, split: ResidentSplit | None, source: Any
) -> VideoEncoding:
  """Returns the encoded videos of a batch, or of some rows of the split."""
  batch = source if split is None else read_videos(split, source)
  # Only corpora of merged clips have sizes.
  sizes = [batch['clip_sizes']] if 'clip_sizes' in batch else []
  found: Any = model.apply(
    variables,
    batch['clip_features'],
    batch['frame_features'],
    batch['frame_mask'],
    *sizes,
    method='encode_video',
  )
  return to_bits(found)


# This is one function, so that JAX keeps what it traced for equal models.
_encoding_shapes = jax.jit(_encode_videos, static_argnums=0).eval_shape


def _encode_queries(
  model: Model, variables: Any, split: ResidentSplit | None, source: Any
) -> Float[Array, 'q d']:
  """Returns the encoded queries of a batch, or of some rows of the split."""
  batch = source if split is None else read_captions(split, source)
  found: Any = model.apply(
    variables,
    batch['word_features'],
    batch['word_mask'],
    method='encode_query',
  )
  return found


def _batches_of(
  total: int, count: int, size: int
) -> Int[np.ndarray, 'count size']:
  """Returns the rows of `count` batches, -1 behind the last of `total`."""
  rows = np.arange(count * size, dtype=np.int32)
  return np.where(rows < total, rows, -1).reshape(count, size)
