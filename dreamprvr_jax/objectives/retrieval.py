"""The losses of the family, each with a factor; 0 drops a loss."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from dreamprvr_jax.losses.ranking import draw_negative_ranks, draw_paired_ranks
from dreamprvr_jax.models.outputs import RetrievalOutput
from dreamprvr_jax.objectives.terms import TERMS
from dreamprvr_jax.types import Batch

BRANCHES = ('clip', 'frame')


@dataclasses.dataclass(frozen=True)
class RetrievalObjective:
  """total = the sum of factor x term; `objectives.terms` computes the terms.

  Any loss can be added to any model that provides what it reads. The fields
  are the keys of `config.loss`, which have their defaults and meaning in
  `configs/models/family.py`.
  """

  # Factors
  clip_nce: float
  frame_nce: float
  clip_triplet: float
  frame_triplet: float
  guided_nce: float
  guided_triplet: float
  diversity: float
  structure: float
  variational: float
  diffusion: float
  matching: float
  cone: float
  inter_evidence: float
  intra_evidence: float
  distances: float
  angles: float
  alignment: float
  interaction: float
  proxy_matching: float
  proxy_divergence: float
  trace_nce: float
  trace_triplet: float
  # Constants of the terms
  margin: float
  hard_pool: int
  diversity_version: int
  diversity_delta: float
  diversity_alpha: float
  diversity_power: float
  structure_temperature: float
  max_captions: int
  inter_temperature: float
  intra_temperature: float
  doubt_margin: float
  label_smoothing: float
  transport_quantile: float
  transport_scale: float
  transport_iterations: int
  sampled_means: bool
  spread_as_variance: bool
  trace_temperature: float

  def used(self) -> list[str]:
    """Returns the names of the terms whose factor is not 0."""
    return [name for name in TERMS if getattr(self, name)]

  def draw(
    self, key: Key[Array, ''], batch: Batch, hard: bool | Bool[Array, '']
  ) -> dict[str, Any]:
    """Returns the ranks of the negatives: 'clip', 'frame' and 'guided'.

    'hard' is whether the later phase of training is on: hard negatives and,
    with evidential losses, calibrated labels and the intra-video loss.
    """
    keys = dict(zip(BRANCHES, jax.random.split(key, 2), strict=True))
    ranks: dict[str, Any] = {
      branch: draw_negative_ranks(
        keys[branch],
        caption_video=batch.caption_video,
        caption_mask=batch.caption_mask,
        video_mask=batch.video_mask,
        hard=hard,
        hard_pool=self.hard_pool,
      )
      for branch in BRANCHES
    }
    ranks['guided'] = draw_paired_ranks(
      keys['frame'],
      batch.caption_mask,
      hard=hard,
      hard_pool=self.hard_pool,
    )
    ranks['hard'] = jnp.asarray(hard)
    return ranks

  def __call__(
    self, output: RetrievalOutput, batch: Batch, ranks: dict[str, Any]
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
    """Returns the total loss and its terms before their factors.

    Args:
      output: The model's training output.
      batch: The batch that it was computed from.
      ranks: From `draw`.
    """
    values = {
      name: TERMS[name].value(self, output, batch, ranks)
      for name in self.used()
    }
    terms = {name: v for name, v in values.items() if v is not None}
    total = sum(
      (getattr(self, name) * term for name, term in terms.items()),
      jnp.zeros(()),
    )
    return total, terms
