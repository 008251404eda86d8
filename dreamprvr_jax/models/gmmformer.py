"""GMMFormer (AAAI 2024): parallel Gaussian blocks, averaged, in two layers."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.blocks import ProjectedAttentionBlock
from dreamprvr_jax.layers.gaussian import block_tables, tables_of_length
from dreamprvr_jax.layers.parallel_blocks import ParallelBlocks
from dreamprvr_jax.layers.pooling import ScoredPooling
from dreamprvr_jax.models import base
from dreamprvr_jax.types import DType, VideoEncoding

LENGTHS = ('fixed', 'batch')


class GaussianLayer(nn.Module):
  """The plain mean of parallel blocks without feed-forward nets."""

  widths: tuple[float, ...]
  num_heads: int
  dropout: float
  execution: str
  remat: bool
  dtype: DType

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b s d'],
    tables: Float[Array, 'a s s'],
    mask: Bool[Array, 'b s'] | None,
    *,
    train: bool,
  ) -> Float[Array, 'b s d']:
    stacks = ParallelBlocks(
      len(self.widths),
      self.num_heads,
      self.dropout,
      self.execution,
      self.remat,
      self.dtype,
      ProjectedAttentionBlock,
      name='parallel',
    )(x, tables, None if mask is None else mask[:, None], train=train)
    return jnp.mean(stacks, axis=0, dtype=jnp.float32).astype(self.dtype)


class GMMFormer(base.RetrievalModel, kw_only=True):
  """Two Gaussian layers a branch; a video's frames become one vector.

  `frame_length` is the length that the frames' tables are made for. 'fixed':
  `max_frames`, so that a video's vector depends on the video alone. 'batch':
  the length of the longest video of the batch, as released.
  """

  block_widths: tuple[float, ...]
  frame_length: str
  parallel_execution: str
  remat: bool

  @property
  def token_branch(self) -> str:
    """The clips: a video's frames are one vector."""
    return 'clip'

  def setup(self):
    if self.frame_length not in LENGTHS:
      raise UserError(
        f'frame_length {self.frame_length!r} is unknown; choose from {LENGTHS}'
      )
    self.add_inputs('plain')
    layer = lambda: GaussianLayer(
      self.block_widths,
      self.num_heads,
      self.dropout,
      self.parallel_execution,
      self.remat,
      self.dtype,
    )
    self.clip_encoder, self.clip_encoder_2 = layer(), layer()
    self.frame_encoder, self.frame_encoder_2 = layer(), layer()
    self.frame_pooling = ScoredPooling(self.dtype)

  def encode_branches(
    self, clip_features, frame_features, frame_mask, clip_sizes=None, *, train
  ):
    """See `base.RetrievalModel`; there is one frame token."""
    del clip_sizes
    clips = self.clip_input(clip_features, train=train)
    frames = self.frame_input(frame_features, train=train)
    tables = jnp.asarray(block_tables(clips.shape[1], 0, self.block_widths))
    clips = self.clip_encoder(clips, tables, None, train=train)
    clips = self.clip_encoder_2(clips, tables, None, train=train)
    size = frames.shape[1]
    if self.frame_length == 'batch':
      longest = jnp.max(jnp.sum(frame_mask, axis=1))
      tables = tables_of_length(longest, size, self.block_widths)
    else:
      tables = jnp.asarray(block_tables(size, 0, self.block_widths))
    frames = self.frame_encoder(frames, tables, frame_mask, train=train)
    frames = self.frame_encoder_2(frames, tables, frame_mask, train=train)
    pooled = self.frame_pooling(frames, mask=frame_mask)[:, None]
    videos = VideoEncoding(
      clip_tokens=clips,
      frame_tokens=pooled,
      frame_mask=jnp.any(frame_mask, axis=1, keepdims=True),
    )
    return videos, None
