"""DreamPRVR (CVPR 2026, arXiv 2604.03653): imagine, then concentrate."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.projection import TokenInput
from dreamprvr_jax.models import base
from dreamprvr_jax.models.concentrate import RegisterAugmentedBlock
from dreamprvr_jax.models.perturbation import perturb_queries
from dreamprvr_jax.models.registers import RegisterGenerator
from dreamprvr_jax.types import Batch, BranchScores, DType, VideoEncoding

# 0: the block without a Gaussian window.
WIDTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@struct.dataclass
class DreamPRVROutput:
  """What the objective of DreamPRVR reads; all float32.

  Fields that an ablated system does not have are None.
  """

  similarities: Any  # Similarities of (n, b)
  text_queries: Any  # (n, d) the encoding that the text losses see
  mean_queries: Any  # (b, d) its mean per video
  mu: Any  # (b, d)
  logvar: Any  # (b, d)
  noise: Any  # (b, r, d)
  predicted_noise: Any  # (t, b, r, d)


class DreamPRVR(nn.Module):
  """The model; sizes are plain fields, their names the paper's terms."""

  width: int = 384
  num_heads: int = 4
  num_clips: int = 32
  max_frames: int = 128
  max_words: int = 30
  input_dropout: float = 0.0
  dropout: float = 0.0
  block_widths: tuple[float, ...] = WIDTHS
  merge_temperature: float = 0.6
  num_registers: int = 4
  register_source: str = 'diffusion'
  register_start: str = 'mean'
  diffusion_steps: int = 10
  diffusion_layers: int = 2
  time_embedding: str = 'released'
  sampling_method: str = 'ddpm'
  sampling_steps: int = 0
  perturbation_scale: float = 0.1
  query_encodings: int = 2
  parallel_execution: str = 'batched'
  remat: bool = False
  clip_weight: float = 0.6
  frame_weight: float = 0.4
  dtype: DType = jnp.float32

  def setup(self):
    if self.query_encodings not in (1, 2):
      raise UserError(
        f'query_encodings is 1 or 2 per step, not {self.query_encodings}'
      )
    self.query = base.QueryEncoder(
      self.width,
      self.num_heads,
      self.max_words,
      self.input_dropout,
      self.dropout,
      self.dtype,
    )
    # The clip position table has as many rows as the frame one, as released;
    # only the first `num_clips` are used.
    token_input = lambda: TokenInput(
      self.width, self.max_frames, self.input_dropout, self.dtype
    )
    self.clip_input = token_input()
    self.frame_input = token_input()
    if self.num_registers:
      self.registers = RegisterGenerator(
        self.width,
        self.num_registers,
        self.num_heads,
        self.dropout,
        self.diffusion_steps,
        self.diffusion_layers,
        self.register_source,
        self.register_start,
        self.time_embedding,
        self.sampling_method,
        self.sampling_steps,
        self.dtype,
      )
    encoder = lambda: RegisterAugmentedBlock(
      self.block_widths,
      self.num_heads,
      self.input_dropout,
      self.dropout,
      self.merge_temperature,
      self.parallel_execution,
      self.remat,
      self.dtype,
    )
    self.clip_encoder = encoder()
    self.frame_encoder = encoder()

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
    *,
    train: bool = False,
  ) -> VideoEncoding:
    """Returns the tokens of a batch of videos."""
    return self._encode_video(
      clip_features, frame_features, frame_mask, train=train
    )[0]

  def score(
    self, queries: Float[Array, 'n d'], videos: VideoEncoding
  ) -> BranchScores:
    """Returns the cosine scores (n, b) of both branches, float32."""
    return base.similarities(queries, videos).cosine

  def __call__(
    self,
    batch: Batch,
    *,
    train: bool = False,
    perturbation_draws: Float[Array, '2 b r d'] | None = None,
  ) -> DreamPRVROutput:
    """Returns everything that the objective needs of one batch.

    In training the released program encodes the queries twice, with
    independent dropout: once for the text losses and the diffusion target,
    once for the scores (`query_encodings` = 2).

    Args:
      batch: The batch.
      train: Whether dropout is on.
      perturbation_draws: Standard normal draws behind alpha and beta of the
        text perturbation sampler; from the random stream 'perturbation' if
        None.
    """
    queries = self.encode_query(
      batch.word_features, batch.word_mask, train=train
    )
    text_queries = queries
    if train and self.query_encodings == 2:
      text_queries = self.encode_query(
        batch.word_features, batch.word_mask, train=train
      )
    videos, registers = self._encode_video(
      batch.clip_features, batch.frame_features, batch.frame_mask, train=train
    )
    mean_queries = _mean_per_video(text_queries, batch)
    predicted = mu = logvar = noise = None
    if registers is not None:
      mu, logvar, noise = registers.mu, registers.logvar, registers.noise
    if registers is not None and noise is not None:
      if perturbation_draws is None:
        perturbation_draws = jax.random.normal(
          self.make_rng('perturbation'), (2, *noise.shape)
        )
      target = perturb_queries(
        mean_queries, *perturbation_draws, scale=self.perturbation_scale
      )
      predicted = self.registers.predict_noise(registers, target)
    return DreamPRVROutput(
      similarities=base.similarities(queries, videos),
      text_queries=text_queries,
      mean_queries=mean_queries,
      mu=mu,
      logvar=logvar,
      noise=noise,
      predicted_noise=predicted,
    )

  def _encode_video(self, clip_features, frame_features, frame_mask, *, train):
    clips = self.clip_input(clip_features, train=train)
    frames = self.frame_input(frame_features, train=train)
    registers = tokens = None
    if self.num_registers:
      registers = self.registers(clips, train=train)
      tokens = registers.tokens
      self.sow('intermediates', 'clip_input_tokens', clips)
      self.sow('intermediates', 'generated_registers', registers)
    videos = VideoEncoding(
      clip_tokens=self.clip_encoder(clips, tokens, None, train=train),
      frame_tokens=self.frame_encoder(frames, tokens, frame_mask, train=train),
      frame_mask=frame_mask,
    )
    return videos, registers


def _mean_per_video(
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
