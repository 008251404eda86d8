"""The losses of the family, each with a factor; 0 drops a loss."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from dreamprvr_jax.losses.ranking import draw_negative_ranks, draw_paired_ranks
from dreamprvr_jax.models.base import RetrievalOutput
from dreamprvr_jax.objectives.terms import TERMS
from dreamprvr_jax.types import Batch

BRANCHES = ('clip', 'frame')


@dataclasses.dataclass(frozen=True)
class RetrievalObjective:
  """total = the sum of factor x term; what each term is: `objectives.terms`.

  Any loss can be added to any model that has what it reads.
  """

  # Factors
  clip_nce: float = 0.0
  frame_nce: float = 0.0
  clip_triplet: float = 1.0
  frame_triplet: float = 1.0
  guided_nce: float = 0.0
  guided_triplet: float = 0.0
  diversity: float = 0.0
  structure: float = 0.0
  variational: float = 0.0
  diffusion: float = 0.0
  matching: float = 0.0
  cone: float = 0.0
  inter_evidence: float = 0.0
  intra_evidence: float = 0.0
  distances: float = 0.0
  angles: float = 0.0
  alignment: float = 0.0
  interaction: float = 0.0
  # What the terms go by
  margin: float = 0.2
  hard_pool: int = 20
  diversity_version: int = 2
  diversity_delta: float = 0.2
  diversity_alpha: float = 32.0
  diversity_power: float = 1.0
  structure_temperature: float = 0.08
  max_captions: int = 32
  inter_temperature: float = 0.04
  intra_temperature: float = 0.08
  doubt_margin: float = 0.3
  label_smoothing: float = 0.2
  transport_quantile: float = 0.3
  transport_scale: float = 0.1
  transport_iterations: int = 50

  def used(self) -> list[str]:
    """Returns the names of the terms whose factor is not 0."""
    return [name for name in TERMS if getattr(self, name)]

  def draw(
    self, key: Key[Array, ''], batch: Batch, hard: bool | Bool[Array, '']
  ) -> dict[str, Any]:
    """Returns the ranks of the negatives, by what they are drawn for.

    'hard' holds whether the later regime is on: hard negatives and, with
    evidential losses, calibrated labels and the intra-video loss.
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
