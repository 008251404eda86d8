"""Models with one consolidation layer per branch."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.models import base
from dreamprvr_jax.models.consolidation import ConsolidationLayer
from dreamprvr_jax.models.outputs import AlignedTokens, RetrievalOutput
from dreamprvr_jax.types import Batch, VideoEncoding


class ConsolidatedModel(base.RetrievalModel, kw_only=True):
  """The common part of GMMFormer v2 and its successors.

  With `learned_token` a trained token queries every block for its weight, in
  both branches; without it, the mean of the blocks' tokens does. `alignment`
  adds the map into the space where MSC aligns both branches. With
  `proportional_attention` a merged clip counts by its size.
  """

  block_widths: tuple[float, ...]
  merge_temperature: float
  alignment: bool
  proportional_attention: bool
  parallel_execution: str
  remat: bool

  # A property of the model, not a key of its config.
  learned_token: ClassVar[bool] = True

  def setup(self):
    self.add_inputs()
    self.add_encoders()

  def provided(self) -> set[str]:
    """Returns the names of what losses may read."""
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
      **self.lorentz_blocks(),
    )
    self.clip_encoder = encoder()
    self.frame_encoder = encoder()
    if self.learned_token:
      self.token = initializers.parameter(
        self, 'token', nn.initializers.normal(1.0), (self.width,)
      )
    if self.alignment:
      self.aligner = linear(self.width, self.dtype)

  @property
  def keeps_registers(self) -> bool:
    """Whether the encoding of a video has its registers."""
    return self.reads_registers

  def lorentz_blocks(self) -> dict[str, Any]:
    """Returns the options of `ConsolidationLayer` for Lorentz blocks; empty
    without any."""
    return {}

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
      queries, text_queries, batch, train=train
    )
    if self.alignment:
      videos = output.videos
      project = lambda tokens: self.aligner(tokens).astype(jnp.float32)
      aligned = AlignedTokens(
        project(videos.clip_tokens), project(videos.frame_tokens)
      )
      output = dataclasses.replace(output, alignment=aligned)
    return output, kept

  def further_tokens(
    self, clips: Float[Array, 'b c d'], *, train: bool
  ) -> tuple[Float[Array, 'b r d'] | None, Any]:
    """Returns further tokens that both branches attend to, and the state that
    `encode_branches` hands on; here None.

    Args:
      clips: The clip branch's input tokens.
      train: Whether dropout is on.
    """
    del clips, train
    return None, None

  def encode_branches(
    self, clip_features, frame_features, frame_mask, clip_sizes=None, *, train
  ):
    """See `base.RetrievalModel`; hands on the state of `further_tokens`."""
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
      registers=registers if self.keeps_registers else None,
    )
    return videos, kept


class LorentzModel(ConsolidatedModel, kw_only=True):
  """A consolidated model that may have parallel blocks in the Lorentz model of
  hyperbolic space."""

  lorentz_widths: tuple[float, ...]
  lorentz_dim: int
  lorentz_window: str

  def lorentz_blocks(self) -> dict[str, Any]:
    """Returns the options of `ConsolidationLayer` for Lorentz blocks."""
    return {
      'lorentz_widths': self.lorentz_widths,
      'lorentz_dim': self.lorentz_dim,
      'lorentz_window': self.lorentz_window,
    }


class GMMFormerV2(ConsolidatedModel):
  """GMMFormer v2 (arXiv 2405.13824): the consolidated model as it is."""


class Holmes(ConsolidatedModel):
  """Holmes (ICML 2026, arXiv 2605.06083): a mean token, evidential losses.

  The released program also has a learned token, which it never reads.
  """

  learned_token: ClassVar[bool] = False


class MSC(ConsolidatedModel):
  """MSC (NeurIPS 2025, arXiv 2510.27432): clips of merged frames, whose size
  counts in attention, aligned with the frames in training."""
