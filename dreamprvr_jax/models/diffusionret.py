"""DiffusionRet's retriever (ICCV 2023) on stored features of CLIP: temporal
transformer and weighted token-wise interaction.

Source: docs/method.md, "Token-frame retriever".
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.layers.temporal import TemporalTransformer
from dreamprvr_jax.models import base
from dreamprvr_jax.models.outputs import RetrievalOutput
from dreamprvr_jax.numerics import (
  FEATURE_NORMS,
  MASKED,
  l2_normalize,
  last_real,
  with_norm,
)
from dreamprvr_jax.types import (
  Batch,
  BranchScores,
  DType,
  VideoEncoding,
)

# Initial value and upper bound of CLIP's logit scale.
_MOST_LOGIT_SCALE = math.log(100.0)


class DiffusionRet(base.RetrievalModel, kw_only=True):
  """The score compares every token with its best frame, every frame with its
  best token.

  A query is one row of (1 + l) d numbers: the pooled vector, which is that of
  its last token (CLIP's end of text), then the vectors of its tokens end to
  end, zero for padding. The two halves of the score are the 'clip' branch
  (tokens) and the 'frame' branch (frames). A video's clip tokens are its clips
  as they were stored; no score reads them.

  Features of another width than `width` are projected; features of that width
  are used unchanged, as released, but for their norm.

  Attributes:
    num_layers: Layers of the temporal transformer.
    num_positions: Rows of its position table.
    feature_norm: Norm of tokens and frames: 'raw' (unchanged, released), 'unit'
      or 'scaled' to `feature_scale`. Frames are added to positions, and the
      released ones have CLIP's norm of about 10; stored features have norm 1.
    feature_scale: Norm of 'scaled' features.
  """

  num_layers: int
  num_positions: int
  # The defaults are those of checkpoints from before these fields.
  feature_norm: str = 'raw'
  feature_scale: float = 10.0

  def provided(self) -> set[str]:
    """Returns the names of what losses may read."""
    return {'queries', 'interaction'}

  def setup(self):
    if self.max_frames > self.num_positions:
      raise UserError(
        f'config.data.max_frames is {self.max_frames}, but the model has '
        f'{self.num_positions} positions; lower it or raise '
        'config.model.num_positions'
      )
    if self.feature_norm not in FEATURE_NORMS:
      raise UserError(
        f'config.model.feature_norm {self.feature_norm!r} is unknown; choose '
        f'from {FEATURE_NORMS}'
      )
    fitting = lambda: Fitting(
      self.width, self.feature_norm, self.feature_scale, self.dtype
    )
    self.text_input, self.video_input = fitting(), fitting()
    self.temporal = TemporalTransformer(
      self.num_layers, self.num_heads, self.num_positions, self.dtype
    )
    self.text_gate, self.video_gate = Gate(), Gate()
    self.log_scale = initializers.parameter(
      self, 'log_scale', nn.initializers.constant(_MOST_LOGIT_SCALE), ()
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
    pooled = last_real(tokens, word_mask)
    found = jnp.concatenate([pooled[:, None], tokens], axis=1)
    return found.reshape(len(found), -1)

  def pooled(self, queries: Float[Array, '... q']) -> Float[Array, '... d']:
    """Returns the vector of each query's last token."""
    return queries[..., : self.width]

  def encode_branches(
    self, clip_features, frame_features, frame_mask, clip_sizes=None, *, train
  ):
    """See `base.RetrievalModel`."""
    del clip_sizes, train
    frames = self.temporal(self.video_input(frame_features), frame_mask)
    # Padded frames are masked wherever they are read; zero as in all models.
    frames = jnp.where(frame_mask[..., None], frames, 0)
    clips = self.video_input(clip_features)
    return VideoEncoding(clips, frames, frame_mask), None

  def score(
    self, queries: Float[Array, 'n q'], videos: VideoEncoding
  ) -> BranchScores:
    """Returns both halves of the score, (n, b), float32."""
    tokens = queries.reshape(len(queries), -1, self.width)[:, 1:]
    real = jnp.any(tokens != 0, axis=-1)
    of_tokens = self.text_gate(tokens, real)
    of_frames = self.video_gate(videos.frame_tokens, videos.frame_mask)
    tokens = l2_normalize(tokens).astype(videos.frame_tokens.dtype)

    # One video at a time, recomputed for the gradient, since a query and a
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
      # A masked pair counts as 0 in the maxima, as released (docs/method.md,
      # "Token-frame retriever").
      products = products * (real[..., None] & mask)
      return (
        jnp.einsum('nl,nl->n', of_tokens, jnp.max(products, axis=2)),
        jnp.einsum('f,nf->n', weights, jnp.max(products, axis=1)),
      )

    by_token, by_frame = jax.lax.map(
      one, (videos.frame_tokens, videos.frame_mask, of_frames)
    )
    return BranchScores(clip=by_token.T, frame=by_frame.T)

  def __call__(self, batch: Batch, *, train: bool = False) -> RetrievalOutput:
    """Returns what the losses read of a batch."""
    queries = self.encode_query(
      batch.word_features, batch.word_mask, train=train
    )
    videos = self.encode_video(
      batch.clip_features, batch.frame_features, batch.frame_mask, train=train
    )
    scores = self.score(queries, videos)
    whole = self.clip_weight * scores.clip + self.frame_weight * scores.frame
    return RetrievalOutput(
      text_queries=self.pooled(queries),
      videos=videos,
      interaction=jnp.exp(self.log_scale) * whole,
    )


class Fitting(nn.Module):
  """Projects features of another width, and gives all the norm."""

  width: int
  norm: str
  scale: float
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, '*rows e']) -> Float[Array, '*rows d']:
    if x.shape[-1] == self.width:
      x = x.astype(self.dtype)
    else:
      x = linear(self.width, self.dtype, 'linear')(x)
    return with_norm(x, self.norm, self.scale)


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
