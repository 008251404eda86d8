"""DiffusionRet's retriever (ICCV 2023) on stored features of CLIP: temporal
transformer and weighted token-wise interaction.

Source: docs/method.md, "Token-frame retriever".
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.layers.temporal import TemporalTransformer
from dreamprvr_jax.models import base
from dreamprvr_jax.numerics import MASKED, l2_normalize
from dreamprvr_jax.types import (
  Batch,
  BranchScores,
  DType,
  Similarities,
  VideoEncoding,
)

# CLIP's logit scale begins near it, and never exceeds it.
_MOST_LOGIT_SCALE = math.log(100.0)


class DiffusionRet(base.RetrievalModel):
  """Every token looks for its best frame, every frame for its best token.

  A query is one row: the vector that stands for it (of its last token, which
  of CLIP is the end of text), then the vectors of its tokens end to end, zero
  where there is none; (1 + l) d numbers. The two halves of the score are the
  'clip' branch (tokens) and the 'frame' branch (frames). A video's clip
  tokens are its clips as they were stored; no score reads them.

  Features of another width than `width` are projected; those of CLIP are
  taken as they are, as released.
  """

  width: int = 512
  num_heads: int = 8
  num_layers: int = 4
  num_positions: int = 77
  query_encodings: int = 1
  clip_weight: float = 0.5
  frame_weight: float = 0.5

  def provided(self) -> set[str]:
    """Returns what the losses may ask for."""
    return {'queries', 'interaction'}

  def setup(self):
    if self.max_frames > self.num_positions:
      raise UserError(
        f'config.data.max_frames is {self.max_frames}, but the model has '
        f'{self.num_positions} positions; lower the one or raise the other '
        '(config.model.num_positions)'
      )
    self.text_input = Fitting(self.width, self.dtype)
    self.video_input = Fitting(self.width, self.dtype)
    self.temporal = TemporalTransformer(
      self.num_layers, self.num_heads, self.num_positions, self.dtype
    )
    self.text_gate, self.video_gate = Gate(), Gate()
    self.log_scale = self.param(
      'log_scale', nn.initializers.constant(_MOST_LOGIT_SCALE), ()
    )

  def constrain(self, params):
    """Returns the parameters with the logit scale within its bound."""
    bound = jnp.minimum(params['log_scale'], _MOST_LOGIT_SCALE)
    return {**params, 'log_scale': bound}

  def encode_query(
    self,
    words: Float[Array, 'n l e'],
    word_mask: Bool[Array, 'n l'],
    *,
    train: bool = False,
  ) -> Float[Array, 'n q']:
    """Returns the pooled query and its tokens, float32."""
    del train
    tokens = self.text_input(words).astype(jnp.float32)
    tokens = jnp.where(word_mask[..., None], tokens, 0)
    last = jnp.maximum(jnp.sum(word_mask, axis=1) - 1, 0)
    pooled = jnp.take_along_axis(tokens, last[:, None, None], axis=1)
    found = jnp.concatenate([pooled, tokens], axis=1)
    return found.reshape(len(found), -1)

  def pooled(self, queries: Float[Array, '... q']) -> Float[Array, '... d']:
    """Returns the one vector of each query that stands for all of it."""
    return queries[..., : self.width]

  def encode_branches(
    self, clip_features, frame_features, frame_mask, clip_sizes=None, *, train
  ):
    """See `base.RetrievalModel`; keeps nothing."""
    del clip_sizes, train
    frames = self.temporal(self.video_input(frame_features), frame_mask)
    # Masked wherever it could matter; zero like everywhere else.
    frames = jnp.where(frame_mask[..., None], frames, 0)
    clips = self.video_input(clip_features)
    return VideoEncoding(clips, frames, frame_mask), None

  def compare(
    self, queries: Float[Array, 'n q'], videos: VideoEncoding
  ) -> Similarities:
    """Returns both halves of the score, (n, b); there is no raw one."""
    tokens = queries.reshape(len(queries), -1, self.width)[:, 1:]
    real = jnp.any(tokens != 0, axis=-1)
    of_tokens = self.text_gate(tokens, real)
    of_frames = self.video_gate(videos.frame_tokens, videos.frame_mask)
    tokens = l2_normalize(tokens).astype(videos.frame_tokens.dtype)

    # One video at a time, computed again for the gradient: a query and a
    # video have l x f products.
    @jax.checkpoint
    def one(video):
      frames, mask, weights = video
      products = jnp.einsum(
        'nld,fd->nlf',
        tokens,
        l2_normalize(frames),
        preferred_element_type=jnp.float32,
      )
      # A masked pair counts as 0, not as nothing, as in the released program
      # (docs/method.md, "Token-frame retriever").
      products = products * (real[..., None] & mask)
      return (
        jnp.einsum('nl,nl->n', of_tokens, jnp.max(products, axis=2)),
        jnp.einsum('f,nf->n', weights, jnp.max(products, axis=1)),
      )

    by_token, by_frame = jax.lax.map(
      one, (videos.frame_tokens, videos.frame_mask, of_frames)
    )
    scores = BranchScores(clip=by_token.T, frame=by_frame.T)
    return Similarities(cosine=scores, raw=BranchScores(None, None))

  def __call__(
    self, batch: Batch, *, train: bool = False
  ) -> base.RetrievalOutput:
    """Returns everything that the objective needs of one batch."""
    output = self.encode_batch(batch, train=train)[0]
    scores = output.similarities.cosine
    whole = self.clip_weight * scores.clip + self.frame_weight * scores.frame
    return dataclasses.replace(
      output, interaction=jnp.exp(self.log_scale) * whole
    )


class Fitting(nn.Module):
  """Features as they are, or projected if they are of another width."""

  width: int
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, '*rows e']) -> Float[Array, '*rows d']:
    if x.shape[-1] == self.width:
      return x.astype(self.dtype)
    return linear(self.width, self.dtype, 'linear')(x)


class Gate(nn.Module):
  """Softmax over real tokens of a small net's output; float32."""

  @nn.compact
  def __call__(
    self, tokens: Float[Array, 'n l d'], mask: Bool[Array, 'n l']
  ) -> Float[Array, 'n l']:
    tokens = tokens.astype(jnp.float32)
    hidden = linear(2 * tokens.shape[-1], jnp.float32, 'hidden')(tokens)
    scores = linear(1, jnp.float32, 'score')(jax.nn.relu(hidden))[..., 0]
    return jax.nn.softmax(jnp.where(mask, scores, MASKED), axis=-1)
