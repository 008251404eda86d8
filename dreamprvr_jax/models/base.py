"""What the retrieval models of the family share.

`RetrievalModel` implements the contract of `models.contract.Model`. A model
adds its parts in `setup` and computes its tokens in `encode_branches`; what
differs further is a method to override.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.blocks import AttentionBlock, ProjectedAttentionBlock
from dreamprvr_jax.layers.pooling import ScoredPooling
from dreamprvr_jax.layers.projection import TokenInput
from dreamprvr_jax.models.outputs import RetrievalOutput, ScorePair
from dreamprvr_jax.numerics import inverse_norm, largest
from dreamprvr_jax.types import (
  Batch,
  BranchScores,
  DType,
  Similarities,
  VideoEncoding,
)

# Blocks A and B of docs/method.md, "Blocks".
BLOCKS = {'plain': ProjectedAttentionBlock, 'feed_forward': AttentionBlock}


class RetrievalModel(nn.Module, kw_only=True):
  """The common part of the models; sizes are plain fields.

  A field has no default here: its value is in the config
  (`configs/models/family.py`, and `config.data` for the lengths).
  """

  width: int
  num_heads: int
  num_clips: int
  max_frames: int
  max_words: int
  input_dropout: float
  dropout: float
  query_encodings: int
  clip_weight: float
  frame_weight: float
  dtype: DType

  def provided(self) -> set[str]:
    """Returns the names of what losses may read; see `RetrievalOutput`."""
    return {'clip_scores', 'frame_scores', 'queries', 'clip_tokens'}

  def add_inputs(self, block: str = 'feed_forward') -> None:
    """Adds the query encoder and the inputs of both branches; for `setup`."""
    if self.query_encodings not in (1, 2):
      raise UserError(
        f'query_encodings is 1 or 2 per step, not {self.query_encodings}'
      )
    self.query = self.new_query_encoder(block)
    # As released, the clip position table has as many rows as the frame table;
    # only the first `num_clips` are used.
    token_input = lambda: TokenInput(
      self.width, self.max_frames, self.input_dropout, self.dtype
    )
    self.clip_input = token_input()
    self.frame_input = token_input()

  def new_query_encoder(self, block: str) -> nn.Module:
    """Returns the query encoder."""
    return QueryEncoder(
      self.width,
      self.num_heads,
      self.max_words,
      self.input_dropout,
      self.dropout,
      self.dtype,
      block,
    )

  def pooled(self, queries: Float[Array, '... d']) -> Float[Array, '... d']:
    """Returns the one vector of each encoded query; here the query itself."""
    return queries

  def constrain(self, params: Any) -> Any:
    """Returns the parameters within their bounds; here there are none."""
    return params

  @property
  def token_score(self) -> str:
    """What a branch's score is: 'cosine', the best cosine of the query with a
    token, or 'other'."""
    kind = type(self)
    plain = (
      kind.score is RetrievalModel.score
      and kind.compare is RetrievalModel.compare
    )
    return 'cosine' if plain else 'other'

  @property
  def reads(self) -> str:
    """What a query is made of: the features of its words."""
    return 'words'

  @property
  def reads_registers(self) -> bool:
    """Whether the score reads registers; here it does not."""
    return False

  @property
  def reads_features(self) -> bool:
    """Whether the score reads frame features; here it does not."""
    return False

  @property
  def token_branch(self) -> str:
    """The tokens that the pooled query is compared with one by one."""
    return 'frame'

  @property
  def repeats_padding(self) -> bool:
    """Whether padded frame tokens repeat the last real one: they are zero."""
    return False

  def encode_branches(
    self,
    clip_features: Float[Array, 'b c e'],
    frame_features: Float[Array, 'b f e'],
    frame_mask: Bool[Array, 'b f'],
    clip_sizes: Int[Array, 'b c'] | None = None,
    *,
    train: bool,
  ) -> tuple[VideoEncoding, Any]:
    """Returns the tokens of a batch of videos, and intermediate values that the
    model's `__call__` uses; None without any."""
    raise TypeError(f'{type(self).__name__} does not define encode_branches')

  def encode_query(
    self,
    words: Float[Array, 'n l e'],
    word_mask: Bool[Array, 'n l'],
    *,
    train: bool = False,
  ) -> Float[Array, 'n d']:
    """Returns the un-normalised query vectors, float32."""
    return self.query(words, word_mask, train=train).astype(jnp.float32)

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
    return self.encode_branches(
      clip_features, frame_features, frame_mask, clip_sizes, train=train
    )[0]

  def encode_video_and_registers(
    self,
    clip_features: Float[Array, 'b c e'],
    frame_features: Float[Array, 'b f e'],
    frame_mask: Bool[Array, 'b f'],
    clip_sizes: Int[Array, 'b c'] | None = None,
  ) -> tuple[VideoEncoding, Float[Array, 'b r d'] | None]:
    """Returns the tokens of a batch of videos, and None for registers."""
    videos = self.encode_video(
      clip_features, frame_features, frame_mask, clip_sizes
    )
    return videos, None

  def score(
    self, queries: Float[Array, 'n d'], videos: VideoEncoding
  ) -> BranchScores:
    """Returns the cosine scores (n, b) of both branches, float32."""
    return self.compare(queries, videos).cosine

  def compare(
    self, queries: Float[Array, 'n d'], videos: VideoEncoding
  ) -> Similarities:
    """Returns cosine and raw scores of both branches, (n, b)."""
    return similarities(queries, videos)

  def encode_batch(
    self, batch: Batch, *, train: bool
  ) -> tuple[RetrievalOutput, Any]:
    """Returns the output that all models have, and the intermediate values of
    `encode_branches`.

    In training most released programs encode the queries twice, with
    independent dropout: once for the text losses, once for the scores
    (`query_encodings` = 2).
    """
    encode = lambda: self.encode_query(
      batch.word_features, batch.word_mask, train=train
    )
    queries = encode()
    twice = train and self.query_encodings == 2
    text_queries = encode() if twice else queries
    return self.compare_batch(
      queries, self.pooled(text_queries), batch, train=train
    )

  def compare_batch(
    self,
    queries: Float[Array, 'n q'],
    text_queries: Float[Array, 'n d'],
    batch: Batch,
    *,
    train: bool,
  ) -> tuple[RetrievalOutput, Any]:
    """Returns what `encode_batch` does, from encoded queries.

    Args:
      queries: Those that scores see.
      text_queries: Those that text losses see.
      batch: The batch.
      train: Whether dropout is on.
    """
    videos, kept = self.encode_branches(
      batch.clip_features,
      batch.frame_features,
      batch.frame_mask,
      batch.clip_sizes,
      train=train,
    )
    found = self.compare(queries, videos)
    output = RetrievalOutput(
      text_queries=text_queries,
      videos=videos,
      clip_scores=ScorePair(found.cosine.clip, found.raw.clip),
      frame_scores=ScorePair(found.cosine.frame, found.raw.frame),
    )
    return output, kept

  def __call__(self, batch: Batch, *, train: bool = False) -> RetrievalOutput:
    """Returns what the losses read of a batch."""
    return self.encode_batch(batch, train=train)[0]


class QueryEncoder(nn.Module):
  """Word features to one un-normalised query vector.

  Source: docs/method.md, "Query encoder".
  """

  width: int
  num_heads: int
  max_words: int
  input_dropout: float
  dropout: float
  dtype: DType = jnp.float32
  block: str = 'feed_forward'

  @nn.compact
  def __call__(
    self,
    words: Float[Array, 'n l e'],
    word_mask: Bool[Array, 'n l'],
    *,
    train: bool,
  ) -> Float[Array, 'n d']:
    tokens = TokenInput(
      self.width, self.max_words, self.input_dropout, self.dtype, name='input'
    )(words, train=train)
    tokens = BLOCKS[self.block](
      self.num_heads, self.dropout, self.dtype, name='block'
    )(tokens, None, word_mask[:, None], train=train)
    return ScoredPooling(self.dtype, name='pooling')(tokens, mask=word_mask)


def token_scores(
  queries: Float[Array, 'n d'], tokens: Float[Array, 'b s d']
) -> tuple[Float[Array, 'n b'], Float[Array, 'n b']]:
  """Returns (cosine, raw) best-token scores, float32.

  One product serves both: cos = dot / norms. The maximum is over all
  positions, so a zero (padded) token scores 0
  (docs/method.md, "Cosine and raw scores").
  """
  # Queries last: tokens are then the left side of one large product, without
  # a transposed copy.
  products = jnp.einsum(
    'bsd,nd->bsn', tokens, queries, preferred_element_type=jnp.float32
  )
  cosine = largest(products * inverse_norm(tokens), axis=1)
  cosine = cosine.T * inverse_norm(queries)
  return cosine, largest(products, axis=1).T


def similarities(
  queries: Float[Array, 'n d'], videos: VideoEncoding
) -> Similarities:
  """Returns cosine and raw scores of both branches."""
  clip, clip_raw = token_scores(queries, videos.clip_tokens)
  frame, frame_raw = token_scores(queries, videos.frame_tokens)
  return Similarities(
    cosine=BranchScores(clip=clip, frame=frame),
    raw=BranchScores(clip=clip_raw, frame=frame_raw),
  )


def mean_per_video(
  queries: Float[Array, 'n d'], batch: Batch
) -> Float[Array, 'b d']:
  """Returns the mean query of each video; zero for padding rows."""
  num_videos = len(batch.video_mask)
  member = batch.caption_mask.astype(queries.dtype)
  total = jax.ops.segment_sum(
    queries * member[:, None], batch.caption_video, num_videos
  )
  count = jax.ops.segment_sum(member, batch.caption_video, num_videos)
  return total / jnp.maximum(count, 1)[:, None]
