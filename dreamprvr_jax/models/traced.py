"""Models with registers that may add TRACE's score to their own."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models import base
from dreamprvr_jax.models.outputs import RetrievalOutput
from dreamprvr_jax.models.trace import TraceHead, TraceSettings
from dreamprvr_jax.types import Batch, BranchScores, VideoEncoding

# Value of `trace` for a model without it.
OFF = 'none'
# The name of the maps' module.
HEAD = 'trace_head'
# The collection of variables that a schedule sets during training.
SCHEDULE = 'schedule'
# Its variable: the share of the weight with which TRACE's score counts.
SHARE = 'trace_share'


class Traced(base.RetrievalModel, kw_only=True):
  """Adds trace_weight x S_trace to the fused score if `trace` is a routing.

  It stands before the model's other base classes, calls `add_trace` in `setup`,
  and gives the registers to `VideoEncoding` if `keeps_registers`. The defaults
  are those of checkpoints that were written before these fields existed.
  """

  trace: str = OFF
  trace_weight: float = 0.03
  trace_temperature: float = 0.07
  trace_route: float = 0.3
  trace_soft: float = 0.2
  trace_bias: bool = False
  trace_start: str = 'identity'

  def provided(self) -> set[str]:
    """Returns the names of what losses may read."""
    found = super().provided()
    return found | {'trace_scores'} if self.keeps_registers else found

  @property
  def keeps_registers(self) -> bool:
    """Whether the encoding of a video has its registers."""
    return self.trace != OFF

  @property
  def reads_registers(self) -> bool:
    """Whether the score reads registers."""
    return self.keeps_registers and self.trace_weight != 0

  @property
  def token_score(self) -> str:
    """'cosine', the best cosine of the query with a token, or 'other'."""
    compares = type(self).compare is base.RetrievalModel.compare
    return 'cosine' if compares and not self.reads_registers else 'other'

  def add_trace(self) -> None:
    """Adds the maps; for `setup`."""
    if not self.keeps_registers:
      return
    settings = TraceSettings(
      self.trace, self.trace_temperature, self.trace_route, self.trace_soft
    )
    self.trace_head = TraceHead(
      self.width, settings, self.trace_bias, self.trace_start, self.dtype
    )
    self.trace_share = self.variable(SCHEDULE, SHARE, lambda: jnp.ones(()))

  def score(
    self, queries: Float[Array, 'n d'], videos: VideoEncoding
  ) -> BranchScores:
    """Returns the scores (n, b) of both branches, and TRACE's, weighted."""
    found = super().score(queries, videos)
    if not self.reads_registers:
      return found
    weight = self.trace_weight * self.trace_share.value
    scores = self.trace_scores(queries, videos)
    return dataclasses.replace(found, addition=weight * scores)

  def trace_scores(
    self, queries: Float[Array, 'n d'], videos: VideoEncoding
  ) -> Float[Array, 'n b']:
    """Returns S_trace, float32.

    Raises:
      UserError: If the model makes no registers.
    """
    if videos.registers is None:
      raise UserError(
        f'config.model.trace is {self.trace!r}, but the model makes no '
        'registers; set config.model.num_registers to 1 or more, or '
        f"config.model.trace to '{OFF}'"
      )
    return self.trace_head(
      self.pooled(queries),
      videos.registers,
      videos.frame_tokens,
      videos.frame_mask,
    )

  def compare_batch(
    self,
    queries: Float[Array, 'n q'],
    text_queries: Float[Array, 'n d'],
    batch: Batch,
    *,
    train: bool,
  ) -> tuple[RetrievalOutput, Any]:
    """See `base.RetrievalModel`."""
    output, kept = super().compare_batch(
      queries, text_queries, batch, train=train
    )
    if self.keeps_registers:
      scores = self.trace_scores(queries, output.videos)
      output = dataclasses.replace(output, trace_scores=scores)
    return output, kept
