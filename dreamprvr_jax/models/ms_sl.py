"""MS-SL (ACM MM 2022): windows of clips, and frames pooled by the best one."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.layers.blocks import ProjectedAttentionBlock
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.layers.windows import window_means
from dreamprvr_jax.models import base
from dreamprvr_jax.models.outputs import RetrievalOutput, ScorePair
from dreamprvr_jax.numerics import (
  MASKED,
  NORM_FLOOR,
  inverse_norm,
  l2_normalize,
  largest,
)
from dreamprvr_jax.types import (
  Batch,
  BranchScores,
  VideoEncoding,
)


class MSSL(base.RetrievalModel):
  """Window means of the clips are the proposals; the best one for a query
  (its key clip) guides an attention over the frames.

  A video's encoding does not depend on the query: it is 32 clip tokens and the
  frame tokens. In training a caption guides its own video only, so frame
  scores are between captions: (n, n). Source: docs/method.md, "MS-SL".
  """

  def provided(self) -> set[str]:
    """Returns the names of what losses may read."""
    return {'clip_scores', 'guided_scores', 'queries', 'clip_tokens'}

  def setup(self):
    self.add_inputs('plain')
    block = lambda: ProjectedAttentionBlock(
      self.num_heads, self.dropout, self.dtype
    )
    self.clip_encoder, self.frame_encoder = block(), block()
    project = lambda: linear(self.width, self.dtype, use_bias=False)
    self.frame_key, self.frame_value = project(), project()

  def encode_branches(
    self, clip_features, frame_features, frame_mask, clip_sizes=None, *, train
  ):
    """See `base.RetrievalModel`."""
    del clip_sizes
    clips = self.clip_encoder(
      self.clip_input(clip_features, train=train), train=train
    )
    frames = self.frame_encoder(
      self.frame_input(frame_features, train=train),
      None,
      frame_mask[:, None],
      train=train,
    )
    # Padded frames are masked wherever they are read; zero as in all models.
    frames = jnp.where(frame_mask[..., None], frames, 0)
    return VideoEncoding(clips, frames, frame_mask), None

  def score(
    self, queries: Float[Array, 'n d'], videos: VideoEncoding
  ) -> BranchScores:
    """Returns the cosine scores (n, b) of both branches, float32.

    Each query pools each video's frames by its own key clip. The pooled vectors
    are not computed: their products with the query follow from the frames'
    values, their norms from the values' Gram matrix.
    """
    windows = window_means(videos.clip_tokens)
    clip, key, _ = best_windows(queries, windows)
    keys = self.frame_key(videos.frame_tokens)
    values = self.frame_value(videos.frame_tokens).astype(jnp.float32)
    products = jnp.einsum(
      'bfd,bwd->bwf', keys, windows, preferred_element_type=jnp.float32
    )
    logits = jax.vmap(lambda p, k: p[k], (0, 1), 1)(products, key)
    weights = _frame_weights(logits, videos.frame_mask[None])
    along = jnp.einsum('nd,bfd->nbf', queries, values)
    gram = jnp.einsum('bfd,bgd->bfg', values, values)
    square = jnp.einsum('nbf,bfg,nbg->nb', weights, gram, weights)
    norm = jnp.sqrt(jnp.maximum(square, NORM_FLOOR**2))
    frame = jnp.einsum('nbf,nbf->nb', weights, along) / norm
    return BranchScores(clip=clip, frame=frame * inverse_norm(queries))

  def __call__(self, batch: Batch, *, train: bool = False) -> RetrievalOutput:
    """Returns what the losses read of a batch."""
    queries = self.encode_query(
      batch.word_features, batch.word_mask, train=train
    )
    videos = self.encode_video(
      batch.clip_features, batch.frame_features, batch.frame_mask, train=train
    )
    windows = window_means(videos.clip_tokens)
    cosine, key, raw = best_windows(queries, windows)
    own = batch.caption_video
    key = jnp.take_along_axis(key, own[:, None], axis=1)[:, 0]
    guided = self._guided(windows[own, key], videos, own)
    unit = l2_normalize
    table = lambda q, r: jnp.einsum('nd,md->nm', q, r)
    return RetrievalOutput(
      text_queries=queries,
      videos=videos,
      clip_scores=ScorePair(cosine, raw),
      guided_scores=ScorePair(
        cosine=table(unit(queries), unit(guided)), raw=table(queries, guided)
      ),
    )

  def _guided(
    self,
    clips: Float[Array, 'n d'],
    videos: VideoEncoding,
    own: Int[Array, ' n'],
  ) -> Float[Array, 'n d']:
    """Returns each caption's own video, pooled by its key clip."""
    keys = self.frame_key(videos.frame_tokens)[own]
    values = self.frame_value(videos.frame_tokens)[own]
    logits = jnp.einsum(
      'nfd,nd->nf', keys, clips, preferred_element_type=jnp.float32
    )
    weights = _frame_weights(logits, videos.frame_mask[own])
    return jnp.einsum('nf,nfd->nd', weights, values.astype(jnp.float32))


def best_windows(
  queries: Float[Array, 'n d'], windows: Float[Array, 'b w d']
) -> tuple[Float[Array, 'n b'], Int[Array, 'n b'], Float[Array, 'n b']]:
  """Returns (best cosine, its window, best raw product); each has its own
  maximiser."""
  products = jnp.einsum(
    'bwd,nd->bwn', windows, queries, preferred_element_type=jnp.float32
  )
  cosine = products * inverse_norm(windows)
  best = largest(cosine, axis=1).T * inverse_norm(queries)
  return best, jnp.argmax(cosine, axis=1).T, largest(products, axis=1).T


def _frame_weights(
  logits: Float[Array, '... f'], mask: Bool[Array, '... f']
) -> Float[Array, '... f']:
  return jax.nn.softmax(jnp.where(mask, logits, MASKED), axis=-1)
