"""DreamPRVR's losses and their weights (specification, section 7)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dreamprvr_jax.losses.contrastive import (
  nce,
  query_diversity,
  supervised_contrastive,
)
from dreamprvr_jax.losses.ranking import draw_negative_ranks, triplet
from dreamprvr_jax.losses.reduction import masked_mean
from dreamprvr_jax.losses.variational import gaussian_kl, noise_error
from dreamprvr_jax.models.dreamprvr import DreamPRVROutput
from dreamprvr_jax.numerics import l2_normalize
from dreamprvr_jax.types import Batch

BRANCHES = ('clip', 'frame')


@dataclasses.dataclass(frozen=True)
class DreamPRVRObjective:
  """total = L_sim + L_div + L_qsp + L_pvs + L_dre; a factor of 0 drops one."""

  margin: float = 0.2
  clip_nce: float = 0.02  # f0
  frame_nce: float = 0.04  # f1
  diversity: float = 0.003  # f2, L_div
  structure: float = 0.01  # f3, L_qsp
  variational: float = 1e-4  # f4, L_pvs
  diffusion: float = 1e-3  # f5, L_dre
  diversity_delta: float = 0.2
  diversity_alpha: float = 32.0
  diversity_power: float = 1.0
  structure_temperature: float = 0.08  # tau
  hard_pool: int = 20

  def draw(
    self, key: Key[Array, ''], batch: Batch, hard: bool | Bool[Array, '']
  ) -> dict[str, tuple[Int[Array, ' n'], Int[Array, ' b']]]:
    """Returns the ranks of the negatives of each branch."""
    keys = dict(zip(BRANCHES, jax.random.split(key, 2), strict=True))
    return {
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

  def __call__(
    self,
    output: DreamPRVROutput,
    batch: Batch,
    ranks: dict[str, tuple[Int[Array, ' n'], Int[Array, ' b']]],
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
    """Returns the total loss and its terms before their factors.

    Args:
      output: The model's training output.
      batch: The batch that it was computed from.
      ranks: From `draw`.
    """
    where = {
      'caption_video': batch.caption_video,
      'caption_mask': batch.caption_mask,
      'video_mask': batch.video_mask,
    }
    two_way = lambda values: (
      masked_mean(values[0], batch.caption_mask)
      + masked_mean(values[1], batch.video_mask)
    )
    terms, total = {}, jnp.zeros(())
    factors = {'clip_nce': self.clip_nce, 'frame_nce': self.frame_nce}
    for branch in BRANCHES:
      raw = getattr(output.similarities.raw, branch)
      terms[f'{branch}_nce'] = two_way(nce(raw, **where))
      cosine = getattr(output.similarities.cosine, branch)
      t2v_rank, v2t_rank = ranks[branch]
      terms[f'{branch}_triplet'] = two_way(
        triplet(
          cosine,
          margin=self.margin,
          t2v_rank=t2v_rank,
          v2t_rank=v2t_rank,
          **where,
        )
      )
      factors[f'{branch}_triplet'] = 1.0

    text = l2_normalize(output.text_queries)
    groups = {'labels': batch.caption_video, 'mask': batch.caption_mask}
    if self.diversity:
      terms['diversity'] = masked_mean(
        query_diversity(
          text,
          delta=self.diversity_delta,
          alpha=self.diversity_alpha,
          power=self.diversity_power,
          **groups,
        ),
        batch.caption_mask,
      )
      factors['diversity'] = self.diversity
    if self.structure:
      terms['structure'] = masked_mean(
        *supervised_contrastive(
          text, temperature=self.structure_temperature, **groups
        )
      )
      factors['structure'] = self.structure
    if self.variational and output.logvar is not None:
      terms['variational'] = masked_mean(
        gaussian_kl(output.mu, output.logvar), batch.video_mask
      )
      factors['variational'] = self.variational
    if self.diffusion and output.predicted_noise is not None:
      terms['diffusion'] = masked_mean(
        noise_error(output.predicted_noise, output.noise), batch.video_mask
      )
      factors['diffusion'] = self.diffusion
    for name, term in terms.items():
      total = total + factors[name] * term
    return total, terms
