"""Models that compare frames with each word of a query.

Source: docs/method.md, "Words and frames".
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.layers.blocks import AttentionBlock
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.layers.pooling import ScoredPooling
from dreamprvr_jax.layers.projection import InputProjection, TokenInput
from dreamprvr_jax.models import base
from dreamprvr_jax.models.consolidated import ConsolidatedModel
from dreamprvr_jax.numerics import MASKED, l2_normalize
from dreamprvr_jax.types import (
  BranchScores,
  DType,
  Similarities,
  VideoEncoding,
)


class WordModel(ConsolidatedModel, kw_only=True):
  """Frames are compared with each word, clips with the pooled query.

  A query is one row of (1 + l) d numbers: the pooled vector, then the vectors
  of its words end to end, zero for padding.
  """

  def setup(self):
    super().setup()
    self.word_weights = WordWeights(self.dtype)

  @property
  def token_branch(self) -> str:
    """The clips: frames are compared with words."""
    return 'clip'

  def new_query_encoder(self, block: str) -> nn.Module:
    """Returns the query encoder."""
    del block
    return TokenQueryEncoder(
      self.width,
      self.num_heads,
      self.max_words,
      self.input_dropout,
      self.dropout,
      self.dtype,
    )

  def encode_query(
    self,
    words: Float[Array, 'n l e'],
    word_mask: Bool[Array, 'n l'],
    *,
    train: bool = False,
  ) -> Float[Array, 'n q']:
    """Returns the pooled query and its words' vectors, float32."""
    pooled = self.query(words, word_mask, train=train)
    tokens = self.query.tokens(words, word_mask, train=train)
    return joined(pooled, tokens, word_mask)

  def pooled(self, queries: Float[Array, '... q']) -> Float[Array, '... d']:
    """Returns the pooled vector of each query."""
    return queries[..., : self.width]

  def compare(
    self, queries: Float[Array, 'n q'], videos: VideoEncoding
  ) -> Similarities:
    """Returns cosine and raw scores of both branches, (n, b)."""
    found = queries.reshape(len(queries), -1, self.width)
    pooled, tokens = found[:, 0], found[:, 1:]
    clip, clip_raw = base.token_scores(pooled, videos.clip_tokens)
    frames = videos.frame_tokens
    frame = self._late_interaction(l2_normalize(tokens), l2_normalize(frames))
    frame_raw = self._late_interaction(tokens, frames)
    return Similarities(
      cosine=BranchScores(clip=clip, frame=frame),
      raw=BranchScores(clip=clip_raw, frame=frame_raw),
    )

  def _late_interaction(
    self, tokens: Float[Array, 'n l d'], frames: Float[Array, 'b f d']
  ) -> Float[Array, 'n b']:
    """Returns the weighted sum over words of each word's best frame.

    The weights are computed from the given tokens, so normalised ones have
    other weights. Videos are taken one at a time and recomputed for the
    gradient, since a caption and a video have l x f products.
    """
    weights = self.word_weights(tokens)

    @jax.checkpoint
    def one(frames):
      products = jnp.einsum(
        'nld,fd->nlf', tokens, frames, preferred_element_type=jnp.float32
      )
      return jnp.einsum('nl,nl->n', weights, jnp.max(products, axis=2))

    return jax.lax.map(one, frames).T


class HolmesMulti(WordModel):
  """Holmes with words; the variant that was published for TVR."""

  learned_token: ClassVar[bool] = False


def joined(
  pooled: Float[Array, 'n d'],
  words: Float[Array, 'n l d'],
  word_mask: Bool[Array, 'n l'],
) -> Float[Array, 'n q']:
  """Returns the encoded queries of `WordModel`, float32."""
  words = jnp.where(word_mask[..., None], words, 0)
  found = jnp.concatenate([pooled[:, None], words], axis=1)
  return found.reshape(len(found), -1).astype(jnp.float32)


class TokenQueryEncoder(nn.Module):
  """`base.QueryEncoder`, and a second encoder with one vector per word; both
  share the position table."""

  width: int
  num_heads: int
  max_words: int
  input_dropout: float
  dropout: float
  dtype: DType = jnp.float32

  def setup(self):
    self.input = TokenInput(
      self.width, self.max_words, self.input_dropout, self.dtype
    )
    self.frame_projection = InputProjection(
      self.width, self.input_dropout, self.dtype
    )
    block = lambda: AttentionBlock(self.num_heads, self.dropout, self.dtype)
    self.block, self.frame_block = block(), block()
    self.pooling = ScoredPooling(self.dtype)

  def __call__(
    self,
    words: Float[Array, 'n l e'],
    word_mask: Bool[Array, 'n l'],
    *,
    train: bool,
  ) -> Float[Array, 'n d']:
    """Returns one un-normalised vector per query."""
    tokens = self.input(words, train=train)
    tokens = self.block(tokens, None, word_mask[:, None], train=train)
    return self.pooling(tokens, mask=word_mask)

  def tokens(
    self,
    words: Float[Array, 'n l e'],
    word_mask: Bool[Array, 'n l'],
    *,
    train: bool,
  ) -> Float[Array, 'n l d']:
    """Returns one un-normalised vector per word; those of padding are not
    zero."""
    words = jnp.asarray(words, self.dtype)
    x = self.frame_projection(words, train=train)
    x = self.input.position(x, train=train)
    return self.frame_block(x, None, word_mask[:, None], train=train)


class WordWeights(nn.Module):
  """Weights of a query's words: a softmax of a small net's output. Padding,
  which is zero, has weight 0."""

  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, tokens: Float[Array, 'n l d']) -> Float[Array, 'n l']:
    hidden = jax.nn.relu(linear(tokens.shape[-1], self.dtype, 'hidden')(tokens))
    scores = linear(1, self.dtype, 'score')(hidden)[..., 0]
    real = jnp.any(tokens != 0, axis=-1)
    scores = jnp.where(real, scores.astype(jnp.float32), MASKED)
    return jax.nn.softmax(scores, axis=-1)
