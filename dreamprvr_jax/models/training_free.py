"""Retrievers without training: frames or moments, compared with a sentence.

They have no parameters. Their tokens are made on the host
(`dreamprvr_jax.training_free`), and a query is the sentence vector of the
encoder that made the frames. Source: docs/method.md, "Without training".
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.outputs import RetrievalOutput
from dreamprvr_jax.numerics import MASKED, l2_normalize
from dreamprvr_jax.types import Batch, BranchScores, DType, VideoEncoding


class TrainingFree(nn.Module, kw_only=True):
  """What both have in common; see `models.contract.Model`.

  The frame branch has all tokens. The clip branch has the mean of a video, to
  compare videos with each other; its score counts nothing by default.
  """

  num_clips: int
  max_frames: int
  max_words: int
  clip_weight: float = 0.0
  frame_weight: float = 1.0
  dtype: DType

  token_score: ClassVar[str] = 'product'
  reads: ClassVar[str] = 'sentence'
  reads_registers: ClassVar[bool] = False
  reads_features: ClassVar[bool] = False
  token_branch: ClassVar[str] = 'frame'
  repeats_padding: ClassVar[bool] = True

  def provided(self) -> set[str]:
    """Returns the names of what losses may read: none."""
    return set()

  def pooled(self, queries: Any) -> Any:
    """Returns the one vector of each encoded query; here the query itself."""
    return queries

  def constrain(self, params: Any) -> Any:
    """Returns the parameters, of which there are none."""
    return params

  def encode_query(
    self,
    words: Float[Array, 'n 1 d'],
    word_mask: Bool[Array, 'n 1'],
    *,
    train: bool = False,
  ) -> Float[Array, 'n d']:
    """Returns the sentence vectors at length 1, float32."""
    del word_mask, train
    return l2_normalize(words[:, 0].astype(jnp.float32))

  def encode_video(
    self,
    clip_features: Float[Array, 'b c d'],
    frame_features: Float[Array, 'b f d'],
    frame_mask: Bool[Array, 'b f'],
    clip_sizes: Int[Array, 'b c'] | None = None,
    *,
    train: bool = False,
  ) -> VideoEncoding:
    """Returns the features as tokens; padded ones repeat the last.

    A token that comes twice changes no maximum, in whichever form an index
    stores it. A token of zeros would: its score is 0, and products with real
    tokens may be below.
    """
    del clip_sizes, train
    last = jnp.maximum(jnp.sum(frame_mask, axis=1, dtype=jnp.int32) - 1, 0)
    place = jnp.minimum(jnp.arange(frame_mask.shape[1]), last[:, None])
    frames = jnp.take_along_axis(frame_features, place[..., None], axis=1)
    return VideoEncoding(
      clip_features.astype(self.dtype), frames.astype(self.dtype), frame_mask
    )

  def encode_video_and_registers(
    self,
    clip_features: Float[Array, 'b c d'],
    frame_features: Float[Array, 'b f d'],
    frame_mask: Bool[Array, 'b f'],
    clip_sizes: Int[Array, 'b c'] | None = None,
  ) -> tuple[VideoEncoding, None]:
    """Returns the tokens of videos, and None for registers."""
    videos = self.encode_video(
      clip_features, frame_features, frame_mask, clip_sizes
    )
    return videos, None

  def score(
    self, queries: Float[Array, 'n d'], videos: VideoEncoding
  ) -> BranchScores:
    """Returns the scores (n, b) of both branches, float32."""
    clips = jnp.ones(videos.clip_tokens.shape[:2], bool)
    return BranchScores(
      clip=self._best(queries, videos.clip_tokens, clips),
      frame=self._best(queries, videos.frame_tokens, videos.frame_mask),
    )

  def __call__(self, batch: Batch, *, train: bool = False) -> RetrievalOutput:
    """Returns the scores of a batch.

    Raises:
      UserError: In training.
    """
    if train:
      raise UserError(f'{type(self).__name__} has nothing to train')
    videos = self.encode_video(
      batch.clip_features, batch.frame_features, batch.frame_mask
    )
    queries = self.encode_query(batch.word_features, batch.word_mask)
    return RetrievalOutput(text_queries=queries, videos=videos)

  def _best(
    self,
    queries: Float[Array, 'n d'],
    tokens: Float[Array, 'b s d'],
    mask: Bool[Array, 'b s'],
  ) -> Float[Array, 'n b']:
    """Returns the best score of each query with a token of each video."""
    if self.token_score == 'cosine':
      tokens, queries = l2_normalize(tokens), l2_normalize(queries)
    products = jnp.einsum(
      'bsd,nd->bsn', tokens, queries, preferred_element_type=jnp.float32
    )
    return jnp.max(jnp.where(mask[..., None], products, MASKED), axis=1).T


class BestFrame(TrainingFree, kw_only=True):
  """The largest cosine of the sentence with a single frame."""

  token_score: ClassVar[str] = 'cosine'


class TFPRVR(TrainingFree, kw_only=True):
  """The largest product of the unit sentence with a moment (TF-PRVR, 2026).

  Moments are smoothed over a graph of pieces, and are not of unit length.
  """

  wavelet: str = 'db4'
  beta: float = 0.7
