"""Encoding a whole corpus and its queries on the devices."""

from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from dreamprvr_jax import parallel
from dreamprvr_jax.evaluation.task import RetrievalTask
from dreamprvr_jax.progress import bar
from dreamprvr_jax.types import VideoEncoding


class Stopped(Exception):
  """Raised between two batches when the caller asks to stop."""


class Encoder:
  """Encodes the batches of a task; a compiled function per batch shape."""

  def __init__(self, model: nn.Module, mesh: Mesh):
    self._mesh = mesh
    whole, rows = parallel.replicated(mesh), parallel.by_row(mesh)
    self._video = jax.jit(
      lambda variables, batch: model.apply(
        variables,
        batch['clip_features'],
        batch['frame_features'],
        batch['frame_mask'],
        method='encode_video',
      ),
      in_shardings=(whole, rows),
      out_shardings=whole,
    )
    self._query = jax.jit(
      lambda variables, batch: model.apply(
        variables,
        batch['word_features'],
        batch['word_mask'],
        method='encode_query',
      ),
      in_shardings=(whole, rows),
      out_shardings=whole,
    )

  def videos(
    self,
    variables: Any,
    task: RetrievalTask,
    *,
    show: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
  ) -> VideoEncoding:
    """Returns the encoding of the corpus, padding rows of the last batch
    included; a whole copy on each device.

    Raises:
      Stopped: If `should_stop` says so between two batches.
    """
    parts = self._run(
      self._video,
      variables,
      task.video_batches(),
      f'encoding videos ({task.name})',
      task.num_video_batches,
      show,
      should_stop,
    )
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

  def queries(
    self,
    variables: Any,
    task: RetrievalTask,
    *,
    show: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
  ) -> Float[Array, 'n d']:
    """Returns the query vectors, padding rows of the last batch included.

    Raises:
      Stopped: If `should_stop` says so between two batches.
    """
    parts = self._run(
      self._query,
      variables,
      task.query_batches(),
      f'encoding queries ({task.name})',
      task.num_query_batches,
      show,
      should_stop,
    )
    return jnp.concatenate(parts)

  def _run(
    self,
    function: Callable[..., Any],
    variables: Any,
    batches: Iterable[Any],
    what: str,
    total: int,
    show: bool,
    should_stop: Callable[[], bool],
  ) -> list[Any]:
    parts = []
    for arrays in bar(batches, what, total=total, show=show):
      if should_stop():
        raise Stopped(what)
      # The masks of padding rows are the caller's business.
      inputs = {
        name: value
        for name, value in arrays.items()
        if name not in ('video_mask', 'caption_mask')
      }
      parts.append(function(variables, parallel.shard_rows(inputs, self._mesh)))
    return parts
