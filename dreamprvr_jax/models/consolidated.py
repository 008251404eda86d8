"""Models whose branches are one consolidation layer each."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.models import base
from dreamprvr_jax.models.consolidation import ConsolidationLayer
from dreamprvr_jax.types import Batch, VideoEncoding


class ConsolidatedModel(base.RetrievalModel):
  """GMMFormer v2 (arXiv 2405.13824), and what its successors build on.

  With `learned_token` one trained token asks every block for its weight, in
  both branches; without, the mean of the blocks' tokens does. `alignment`
  adds the map into the space where MSC aligns both branches,
  `proportional_attention` lets a merged clip count by its size.
  """

  block_widths: tuple[float, ...] = (0.0, 0.5, 1.0, 5.0, 10.0, 3.0, 0.1, 8.0)
  lorentz_widths: tuple[float, ...] = ()
  lorentz_dim: int = 127
  lorentz_window: str = 'distances'
  merge_temperature: float = 0.6
  learned_token: bool = True
  alignment: bool = False
  proportional_attention: bool = False
  parallel_execution: str = 'batched'
  remat: bool = False

  def setup(self):
    self.add_inputs()
    self.add_encoders()

  def provided(self) -> set[str]:
    """Returns what the losses may ask for."""
    found = super().provided()
    return found | {'alignment'} if self.alignment else found

  def add_encoders(self) -> None:
    """Adds the layers of both branches; for `setup`."""
    encoder = lambda: ConsolidationLayer(
      self.block_widths,
      self.num_heads,
      self.input_dropout,
      self.dropout,
      self.merge_temperature,
      self.parallel_execution,
      self.remat,
      self.dtype,
      self.lorentz_widths,
      self.lorentz_dim,
      self.lorentz_window,
    )
    self.clip_encoder = encoder()
    self.frame_encoder = encoder()
    if self.learned_token:
      self.token = self.param(
        'token', nn.initializers.normal(1.0), (self.width,)
      )
    if self.alignment:
      self.aligner = linear(self.width, self.dtype)

  def encode_batch(
    self, batch: Batch, *, train: bool
  ) -> tuple[base.RetrievalOutput, Any]:
    """See `base.RetrievalModel`."""
    output, kept = super().encode_batch(batch, train=train)
    if self.alignment:
      videos = output.videos
      aligned = tuple(
        self.aligner(tokens).astype(jnp.float32)
        for tokens in (videos.clip_tokens, videos.frame_tokens)
      )
      output = dataclasses.replace(output, aligned=aligned)
    return output, kept

  def further_tokens(
    self, clips: Float[Array, 'b c d'], *, train: bool
  ) -> tuple[Float[Array, 'b r d'] | None, Any]:
    """Returns tokens that both branches attend to besides their own, and what
    the model keeps of making them.

    Args:
      clips: The clip branch's input tokens.
      train: Whether dropout is on.
    """
    del clips, train
    return None, None

  def encode_branches(
    self, clip_features, frame_features, frame_mask, clip_sizes=None, *, train
  ):
    """See `base.RetrievalModel`; keeps what `further_tokens` keeps."""
    clips = self.clip_input(clip_features, train=train)
    frames = self.frame_input(frame_features, train=train)
    registers, kept = self.further_tokens(clips, train=train)
    shared = {
      'registers': registers,
      'token': self.token if self.learned_token else None,
      'train': train,
    }
    key_bias = None
    if self.proportional_attention:
      if clip_sizes is None:
        raise UserError(
          'proportional_attention needs the sizes of merged clips; set '
          "config.data.clips='merged'"
        )
      key_bias = jnp.log(jnp.asarray(clip_sizes, jnp.float32))
    videos = VideoEncoding(
      clip_tokens=self.clip_encoder(clips, None, key_bias=key_bias, **shared),
      frame_tokens=self.frame_encoder(frames, frame_mask, **shared),
      frame_mask=frame_mask,
    )
    return videos, kept


class GMMFormerV2(ConsolidatedModel):
  """GMMFormer v2: the consolidated model as it is."""


class Holmes(ConsolidatedModel):
  """Holmes (ICML 2026, arXiv 2605.06083): a mean token, evidential losses.

  The released program's learned token, which nothing reads, is left out.
  """

  block_widths: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
  learned_token: bool = False
  clip_weight: float = 0.6
  frame_weight: float = 0.4


class MSC(ConsolidatedModel):
  """MSC (NeurIPS 2025, arXiv 2510.27432): clips of merged frames, whose size
  counts in attention, aligned with the frames in training."""

  max_words: int = 77
  query_encodings: int = 1
  alignment: bool = True
  proportional_attention: bool = True
  clip_weight: float = 0.4
  frame_weight: float = 0.6
