"""TRACE without training: pooled tokens in the place of registers.

Source: docs/method.md, "TRACE without training".
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.trace import Evidence, TraceSettings, trace_scores
from dreamprvr_jax.types import BranchScores, VideoEncoding

_FORM = re.compile(r'(temporal|global)-([1-9]\d?)')


@dataclasses.dataclass(frozen=True)
class Anchors:
  """Which tokens of a video are pooled together.

  Attributes:
    kind: 'temporal', equal stretches one after the other; 'global', every
      count-th token, so that each anchor sees the whole video.
    count: Number of anchors. A video with fewer tokens has fewer.
  """

  kind: str
  count: int

  @classmethod
  def parse(cls, form: str) -> 'Anchors':
    """Returns the anchors that 'temporal-4' or 'global-4' names.

    Raises:
      UserError: If there is no such form.
    """
    found = _FORM.fullmatch(form)
    if not found:
      raise UserError(
        f'TRACE has no form {form!r}; give temporal-N or global-N with 1 to 99 '
        'anchors, such as temporal-4'
      )
    return cls(found[1], int(found[2]))

  def __str__(self) -> str:
    return f'{self.kind}-{self.count}'

  def pool(
    self, tokens: Float[Array, 'b s d'], mask: Bool[Array, 'b s']
  ) -> tuple[Float[Array, 'b r d'], Bool[Array, 'b r']]:
    """Returns the anchors of videos, float32, and which are real, those first.

    Args:
      tokens: Tokens, the real ones first.
      mask: Real tokens.
    """
    place = jnp.arange(tokens.shape[1])
    length = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
    # A video with fewer tokens than anchors has an anchor for each.
    group = place * jnp.minimum(self.count, length) // length
    if self.kind == 'global':
      group = jnp.broadcast_to(place % self.count, mask.shape)
    member = jax.nn.one_hot(group, self.count) * mask[..., None]
    total = jnp.einsum(
      'bsr,bsd->brd', member, tokens, preferred_element_type=jnp.float32
    )
    count = jnp.sum(member, axis=1)
    return total / jnp.maximum(count, 1)[..., None], count > 0


class AnchoredTrace(nn.Module):
  """Scores queries and videos that a model encoded; has no parameters.

  `branch` names the tokens, see `Model.token_branch`; `pooled` is that of the
  model.
  """

  anchors: Anchors
  settings: TraceSettings
  branch: str
  pooled: Callable[[Any], Any]
  clip_weight: float = 0.0
  frame_weight: float = 1.0

  def score(
    self, queries: Float[Array, 'n q'], videos: VideoEncoding
  ) -> BranchScores:
    """Returns S_trace as the score of both branches, float32."""
    tokens, mask = videos.frame_tokens, videos.frame_mask
    if self.branch == 'clip':
      tokens = videos.clip_tokens
      mask = jnp.ones(tokens.shape[:2], bool)
    anchors, real = self.anchors.pool(tokens, mask)
    found = trace_scores(
      self.pooled(queries),
      Evidence(anchors, real, tokens, tokens, mask),
      self.settings,
    )
    return BranchScores(clip=found, frame=found)
