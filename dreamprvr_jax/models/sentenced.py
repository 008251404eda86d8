"""Models that may add the best frame's cosine, taken before any training."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models import base
from dreamprvr_jax.models.outputs import RetrievalOutput, ScorePair
from dreamprvr_jax.numerics import MASKED, l2_normalize, last_real
from dreamprvr_jax.types import Batch, BranchScores, VideoEncoding


class Sentenced(base.RetrievalModel, kw_only=True):
  """Adds sentence_weight x S_sentence to the fused score, unless it is 0.

  S_sentence is the largest cosine of the sentence's vector, which its word
  features end with, with a frame's features: what `BestFrame` has, over the
  frames that the model reads. Both are of one encoder, as CLIP's are.

  An encoded query is the model's own with the sentence's vector behind it. With
  `sentence_training` the triplet losses see cosines to which the same is added.

  It stands before the model's other base classes. The defaults are those of
  checkpoints that were written before these fields existed.
  """

  sentence_weight: float = 0.0
  sentence_training: bool = False

  @property
  def reads_features(self) -> bool:
    """Whether the score reads the features of frames."""
    return self.sentence_weight != 0

  @property
  def token_score(self) -> str:
    """What a branch's score is; the fused one has an addition."""
    return 'other' if self.reads_features else super().token_score

  def pooled(self, queries: Float[Array, '... q']) -> Float[Array, '... d']:
    """Returns the encoded queries without the sentences' vectors."""
    return queries[..., : self.width] if self.reads_features else queries

  def encode_query(
    self,
    words: Float[Array, 'n l e'],
    word_mask: Bool[Array, 'n l'],
    *,
    train: bool = False,
  ) -> Float[Array, 'n q']:
    """Returns the encoded queries, float32."""
    found = super().encode_query(words, word_mask, train=train)
    if not self.reads_features:
      return found
    sentences = last_real(jnp.asarray(words, jnp.float32), word_mask)
    return jnp.concatenate([found, sentences], axis=-1)

  def encode_video(
    self,
    clip_features: Float[Array, 'b c e'],
    frame_features: Float[Array, 'b f e'],
    frame_mask: Bool[Array, 'b f'],
    clip_sizes: Int[Array, 'b c'] | None = None,
    *,
    train: bool = False,
  ) -> VideoEncoding:
    """Returns the tokens of a batch of videos."""
    found = super().encode_video(
      clip_features, frame_features, frame_mask, clip_sizes, train=train
    )
    return self.with_features(found, frame_features)

  def with_features(
    self, videos: VideoEncoding, frames: Float[Array, 'b f e']
  ) -> VideoEncoding:
    """Returns encoded videos with the features of their frames, if the score
    reads them."""
    if not self.reads_features:
      return videos
    unit = l2_normalize(jnp.asarray(frames, jnp.float32))
    return dataclasses.replace(videos, frame_features=unit.astype(self.dtype))

  def score(
    self, queries: Float[Array, 'n q'], videos: VideoEncoding
  ) -> BranchScores:
    """Returns the scores (n, b) of both branches, and what is added."""
    found = super().score(self.pooled(queries), videos)
    if not self.reads_features:
      return found
    added = self.sentence_weight * self.sentence_scores(queries, videos)
    if found.addition is not None:
      added = added + found.addition
    return dataclasses.replace(found, addition=added)

  def sentence_scores(
    self, queries: Float[Array, 'n q'], videos: VideoEncoding
  ) -> Float[Array, 'n b']:
    """Returns S_sentence, float32.

    Raises:
      UserError: If sentences and frames differ in width.
    """
    frames, sentences = videos.frame_features, queries[:, self.width :]
    assert frames is not None
    self._require_one_width(sentences, frames)
    cosines = jnp.einsum(
      'bfe,ne->bfn',
      frames,
      l2_normalize(sentences).astype(frames.dtype),
      preferred_element_type=jnp.float32,
    )
    mask = videos.frame_mask[..., None]
    return jnp.max(jnp.where(mask, cosines, MASKED), axis=1).T

  def _require_one_width(self, sentences: Array, frames: Array) -> None:
    if frames.shape[-1] != sentences.shape[-1]:
      raise UserError(
        f'config.model.sentence_weight is {self.sentence_weight}: it compares '
        f'sentences with frames, but word features have '
        f'{sentences.shape[-1]} numbers and frame features {frames.shape[-1]}; '
        'give features of one encoder, or set it to 0'
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
      self.pooled(queries), text_queries, batch, train=train
    )
    if not self.reads_features:
      return output, kept
    # Here, too, so that training refuses them before its first epoch.
    self._require_one_width(batch.word_features, batch.frame_features)
    if not self.sentence_training:
      return output, kept
    videos = self.with_features(output.videos, batch.frame_features)
    added = self.sentence_weight * self.sentence_scores(queries, videos)
    fused = lambda pair: ScorePair(pair.cosine + added, pair.raw)
    return dataclasses.replace(
      output,
      clip_scores=fused(output.clip_scores),
      frame_scores=fused(output.frame_scores),
    ), kept
