"""The terms of the family's losses: their inputs and their values."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.losses.alignment import cross_branch
from dreamprvr_jax.losses.cone import cone_violation
from dreamprvr_jax.losses.contrastive import (
  nce,
  paired_nce,
  query_diversity,
  supervised_contrastive,
)
from dreamprvr_jax.losses.evidential import (
  calibrated_labels,
  combine,
  evidence,
  expected_error,
)
from dreamprvr_jax.losses.grouping import captions_by_video
from dreamprvr_jax.losses.matching import matched_cosines
from dreamprvr_jax.losses.proxies import cross_divergence, proxy_matching
from dreamprvr_jax.losses.ranking import paired_triplet, triplet
from dreamprvr_jax.losses.reduction import masked_mean, same_video
from dreamprvr_jax.losses.relational import angle_error, distance_error
from dreamprvr_jax.losses.transport import stretched, transport_labels
from dreamprvr_jax.losses.variational import gaussian_kl, noise_error
from dreamprvr_jax.models.outputs import RetrievalOutput, ScorePair
from dreamprvr_jax.numerics import l2_normalize, last_real
from dreamprvr_jax.types import Batch

# (objective, output, batch, ranks) -> the term before its factor, or None if an
# ablated model lacks its inputs.
Value = Callable[[Any, RetrievalOutput, Batch, dict[str, Any]], Array | None]
T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Term:
  """A loss of the family.

  Attributes:
    value: Computes it.
    needs: What the model must provide; see `models.contract.Model.provided`.
  """

  value: Value
  needs: frozenset[str]


def _given(group: T | None) -> T:
  """Returns a group of the output that the model is known to provide."""
  assert group is not None
  return group


def _where(batch: Batch) -> dict[str, Any]:
  return {
    'caption_video': batch.caption_video,
    'caption_mask': batch.caption_mask,
    'video_mask': batch.video_mask,
  }


def _two_way(values: tuple[Array, Array], batch: Batch) -> Float[Array, '']:
  return masked_mean(values[0], batch.caption_mask) + masked_mean(
    values[1], batch.video_mask
  )


def _nce(scores: Callable[[RetrievalOutput], ScorePair | None]) -> Value:
  def value(objective, output, batch, ranks):
    del objective, ranks
    raw = _given(scores(output)).raw
    return _two_way(nce(raw, **_where(batch)), batch)

  return value


def _triplet(
  branch: str, scores: Callable[[RetrievalOutput], ScorePair | None]
) -> Value:
  def value(objective, output, batch, ranks):
    t2v_rank, v2t_rank = ranks[branch]
    losses = triplet(
      _given(scores(output)).cosine,
      margin=objective.margin,
      t2v_rank=t2v_rank,
      v2t_rank=v2t_rank,
      **_where(batch),
    )
    return _two_way(losses, batch)

  return value


def _guided_nce(objective, output, batch, ranks):
  del objective, ranks
  losses = paired_nce(_given(output.guided_scores).raw, batch.caption_mask)
  return masked_mean(losses, batch.caption_mask)


def _guided_triplet(objective, output, batch, ranks):
  row_rank, column_rank = ranks['guided']
  losses = paired_triplet(
    _given(output.guided_scores).cosine,
    batch.caption_mask,
    margin=objective.margin,
    row_rank=row_rank,
    column_rank=column_rank,
  )
  return masked_mean(losses, batch.caption_mask)


def _diversity(objective, output, batch, ranks):
  del ranks
  losses = query_diversity(
    l2_normalize(output.text_queries),
    labels=batch.caption_video,
    mask=batch.caption_mask,
    delta=objective.diversity_delta,
    alpha=objective.diversity_alpha,
    power=(
      None if objective.diversity_version == 1 else objective.diversity_power
    ),
  )
  return masked_mean(losses, batch.caption_mask)


def _structure(objective, output, batch, ranks):
  del ranks
  return masked_mean(
    *supervised_contrastive(
      l2_normalize(output.text_queries),
      temperature=objective.structure_temperature,
      labels=batch.caption_video,
      mask=batch.caption_mask,
    )
  )


def _variational(objective, output, batch, ranks):
  del objective, ranks
  gaussian = output.sampler
  if gaussian is None:
    return None
  losses = gaussian_kl(gaussian.mu, gaussian.logvar)
  return masked_mean(losses, batch.video_mask)


def _diffusion(objective, output, batch, ranks):
  del objective, ranks
  if output.estimator is None:
    return None
  losses = noise_error(output.estimator.predicted, output.estimator.noise)
  return masked_mean(losses, batch.video_mask)


def _grouped_cosines(
  objective: Any, output: RetrievalOutput, batch: Batch
) -> tuple[Float[Array, 'b q c'], Bool[Array, 'b q']]:
  """Returns the cosines of each video's captions and clips, and which
  captions are real."""
  index, real = captions_by_video(
    batch.caption_video,
    batch.caption_mask,
    len(batch.video_mask),
    min(objective.max_captions, len(batch.caption_mask)),
  )
  queries = l2_normalize(output.text_queries)[index]
  clips = l2_normalize(output.videos.clip_tokens.astype(jnp.float32))
  return jnp.einsum('bqd,bcd->bqc', queries, clips), real


def _matching(objective, output, batch, ranks):
  del ranks
  cosine, real = _grouped_cosines(objective, output, batch)
  pairs, matched = matched_cosines(cosine, real)
  count = jnp.sum(matched)
  mean = jnp.sum(jnp.where(matched, pairs, 0.0)) / jnp.maximum(count, 1)
  return jnp.where(count > 0, 1 - mean, 0.0)


def _cone(objective, output, batch, ranks):
  del objective, ranks
  cone = _given(output.cone)
  losses = cone_violation(
    cone.videos[batch.caption_video], cone.captions, cone.curvature
  )
  return masked_mean(losses, batch.caption_mask)


def _inter_evidence(objective, output, batch, ranks):
  frame, clip = _given(output.frame_scores), _given(output.clip_scores)
  scores = frame.cosine, clip.cosine
  temperature = objective.inter_temperature
  found = evidence(scores[0], temperature), evidence(scores[1], temperature)
  labels, _ = calibrated_labels(
    scores,
    found,
    margin=objective.doubt_margin,
    smoothing=objective.label_smoothing,
    **_where(batch),
  )
  one_hot = same_video(**_where(batch)).astype(jnp.float32)
  labels = jnp.where(ranks['hard'], labels, one_hot)
  count = jnp.sum(batch.video_mask).astype(jnp.float32)
  total = jnp.zeros(())
  for e in (*found, combine(*found, count)):
    losses = expected_error(e, labels, batch.video_mask[None])
    total = total + masked_mean(losses, batch.caption_mask)
  return total


def _intra_evidence(objective, output, batch, ranks):
  cosine, real = _grouped_cosines(objective, output, batch)
  x = stretched(cosine, real)
  labels = transport_labels(
    x,
    real,
    quantile=objective.transport_quantile,
    scale=objective.transport_scale,
    iterations=objective.transport_iterations,
  )
  found = evidence(x, objective.intra_temperature)
  losses = expected_error(found, labels, jnp.ones((), bool))
  count = jnp.maximum(jnp.sum(real, axis=1), 1)
  per_video = jnp.sum(jnp.where(real, losses, 0.0), axis=1) / count
  value = masked_mean(per_video, batch.video_mask)
  return jnp.where(ranks['hard'], value, 0.0)


def _teacher(batch: Batch) -> Float[Array, 'n e']:
  """Returns the vector of each sentence, which its words end with."""
  return last_real(jnp.asarray(batch.word_features), batch.word_mask)


def _relation(error: Callable[..., Array]) -> Value:
  def value(objective, output, batch, ranks):
    del objective, ranks
    return error(output.text_queries, _teacher(batch), batch.caption_mask)

  return value


def _alignment(objective, output, batch, ranks):
  del objective, ranks
  aligned = _given(output.alignment)
  losses = cross_branch(
    aligned.clips,
    aligned.frames,
    sizes=_given(batch.clip_sizes),
    groups=_given(batch.clip_groups),
  )
  return masked_mean(losses, batch.video_mask)


def _interaction(objective, output, batch, ranks):
  del objective, ranks
  scores = _given(output.interaction)
  return 0.5 * _two_way(nce(scores, **_where(batch)), batch)


def _proxy_matching(objective, output, batch, ranks):
  del objective, ranks
  pair = _given(output.proxies)
  losses = proxy_matching(
    pair.text.proxies, pair.video.proxies, batch.video_mask
  )
  return masked_mean(losses, batch.video_mask)


def _proxy_divergence(objective, output, batch, ranks):
  del ranks
  pair = _given(output.proxies)
  sides = []
  total = jnp.zeros(batch.video_mask.shape)
  for side in (pair.text, pair.video):
    mean = side.mu
    if objective.sampled_means:
      mean = jnp.mean(side.proxies, axis=1)
    logvar = side.spread if objective.spread_as_variance else 2 * side.spread
    total += gaussian_kl(mean, logvar)
    sides += [mean, side.spread]
  total += cross_divergence(*sides)
  return masked_mean(total, batch.video_mask)


def _trace_nce(objective, output, batch, ranks):
  del ranks
  scores = _given(output.trace_scores) / objective.trace_temperature
  per_caption, _ = nce(scores, **_where(batch))
  return masked_mean(per_caption, batch.caption_mask)


def _term(value: Value, *needs: str) -> Term:
  return Term(value, frozenset(needs))


def _clip(output: RetrievalOutput) -> ScorePair | None:
  return output.clip_scores


def _frame(output: RetrievalOutput) -> ScorePair | None:
  return output.frame_scores


def _trace(output: RetrievalOutput) -> ScorePair | None:
  scores = _given(output.trace_scores)
  return ScorePair(scores, scores)


TERMS = {
  'clip_nce': _term(_nce(_clip), 'clip_scores'),
  'frame_nce': _term(_nce(_frame), 'frame_scores'),
  'clip_triplet': _term(_triplet('clip', _clip), 'clip_scores'),
  'frame_triplet': _term(_triplet('frame', _frame), 'frame_scores'),
  'guided_nce': _term(_guided_nce, 'guided_scores'),
  'guided_triplet': _term(_guided_triplet, 'guided_scores'),
  'diversity': _term(_diversity, 'queries'),
  'structure': _term(_structure, 'queries'),
  'variational': _term(_variational, 'sampler'),
  'diffusion': _term(_diffusion, 'estimator'),
  'matching': _term(_matching, 'queries', 'clip_tokens'),
  'cone': _term(_cone, 'cone'),
  'inter_evidence': _term(_inter_evidence, 'clip_scores', 'frame_scores'),
  'intra_evidence': _term(_intra_evidence, 'queries', 'clip_tokens'),
  'distances': _term(_relation(distance_error), 'queries'),
  'angles': _term(_relation(angle_error), 'queries'),
  'alignment': _term(_alignment, 'alignment'),
  'interaction': _term(_interaction, 'interaction'),
  'proxy_matching': _term(_proxy_matching, 'proxies'),
  'proxy_divergence': _term(_proxy_divergence, 'proxies'),
  'trace_nce': _term(_trace_nce, 'trace_scores'),
  # Its negatives have the ranks of the frame branch.
  'trace_triplet': _term(_triplet('frame', _trace), 'trace_scores'),
}
