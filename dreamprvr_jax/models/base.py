"""What every retrieval model of the family shares.

A model is a Flax module with four methods:
  encode_query(words, word_mask, train) -> (n, d) pooled queries
  encode_video(clip_features, frame_features, frame_mask, train)
    -> VideoEncoding
  score(queries, videos) -> BranchScores (cosine)
  __call__(batch, train) -> the model's own output struct for its objective
and two plain fields, `clip_weight` and `frame_weight`, that fuse the branches.
Evaluation, search and the training loop know nothing else of it.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.layers.blocks import AttentionBlock
from dreamprvr_jax.layers.pooling import ScoredPooling
from dreamprvr_jax.layers.projection import TokenInput
from dreamprvr_jax.numerics import inverse_norm
from dreamprvr_jax.types import (
  BranchScores,
  DType,
  Similarities,
  VideoEncoding,
)


class QueryEncoder(nn.Module):
  """Word features to one un-normalised query vector (common notes, C5)."""

  width: int
  num_heads: int
  max_words: int
  input_dropout: float
  dropout: float
  dtype: DType = jnp.float32

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
    tokens = AttentionBlock(
      self.num_heads, self.dropout, self.dtype, name='block'
    )(tokens, None, word_mask[:, None], train=train)
    return ScoredPooling(self.dtype, name='pooling')(tokens, mask=word_mask)


def token_scores(
  queries: Float[Array, 'n d'], tokens: Float[Array, 'b s d']
) -> tuple[Float[Array, 'n b'], Float[Array, 'n b']]:
  """Returns (cosine, raw) best-token scores, float32.

  One product serves both: cos = dot / norms. The maximum is over all
  positions, so a zero (padded) token scores 0 (common notes, C6).
  """
  # Queries last: as they lie, tokens are the left side of one large product.
  products = jnp.einsum(
    'bsd,nd->bsn', tokens, queries, preferred_element_type=jnp.float32
  )
  cosine = jnp.max(products * inverse_norm(tokens), axis=1)
  cosine = cosine.T * inverse_norm(queries)
  return cosine, jnp.max(products, axis=1).T


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
