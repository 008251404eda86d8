"""DreamPRVR (CVPR 2026, arXiv 2604.03653): imagine, then concentrate."""

import dataclasses
from typing import ClassVar

import jax
from jaxtyping import Array, Float

from dreamprvr_jax.models import base
from dreamprvr_jax.models.consolidated import LorentzModel
from dreamprvr_jax.models.outputs import (
  NoisePrediction,
  RetrievalOutput,
)
from dreamprvr_jax.models.perturbation import perturb_queries
from dreamprvr_jax.models.registers import RegisterGenerator, Registers
from dreamprvr_jax.models.sentenced import Sentenced
from dreamprvr_jax.models.traced import Traced
from dreamprvr_jax.types import Batch, VideoEncoding


class DreamPRVR(Sentenced, Traced, LorentzModel, kw_only=True):
  """The model; sizes are plain fields, their names the paper's terms."""

  num_registers: int
  register_source: str
  register_start: str
  diffusion_steps: int
  diffusion_layers: int
  time_embedding: str
  sampling_method: str
  sampling_steps: int
  perturbation_scale: float

  learned_token: ClassVar[bool] = False

  def provided(self) -> set[str]:
    """Returns the names of what losses may read."""
    return super().provided() | {'sampler', 'estimator'}

  def setup(self):
    self.add_inputs()
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
    self.add_encoders()
    self.add_trace()

  def __call__(
    self,
    batch: Batch,
    *,
    train: bool = False,
    perturbation_draws: Float[Array, '2 b r d'] | None = None,
  ) -> RetrievalOutput:
    """Returns what the losses read of a batch.

    The text losses and the diffusion target see one encoding of the queries,
    the scores another.

    Args:
      batch: The batch.
      train: Whether dropout is on.
      perturbation_draws: Standard normal draws behind alpha and beta of the
        text perturbation sampler; from the random stream 'perturbation' if
        None.
    """
    output, registers = self.encode_batch(batch, train=train)
    if registers is None:
      return output
    return dataclasses.replace(
      output,
      sampler=registers.gaussian,
      estimator=self._prediction(
        registers,
        base.mean_per_video(output.text_queries, batch),
        perturbation_draws,
      ),
    )

  def encode_video_and_registers(
    self, clip_features, frame_features, frame_mask, clip_sizes=None
  ) -> tuple[VideoEncoding, Float[Array, 'b r d'] | None]:
    """Returns the tokens of a batch of videos, and the registers."""
    videos, registers = self.encode_branches(
      clip_features, frame_features, frame_mask, clip_sizes, train=False
    )
    return (
      self.with_features(videos, frame_features),
      None if registers is None else registers.tokens,
    )

  def _prediction(
    self,
    registers: Registers,
    mean_queries: Float[Array, 'b d'],
    draws: Float[Array, '2 b r d'] | None,
  ) -> NoisePrediction | None:
    """Returns the noise that the estimator finds; None without estimator."""
    inputs = registers.diffusion
    if inputs is None:
      return None
    noise = inputs.noise
    if draws is None:
      draws = jax.random.normal(
        self.make_rng('perturbation'), (2, *noise.shape)
      )
    target = perturb_queries(
      mean_queries, *draws, scale=self.perturbation_scale
    )
    predicted = self.registers.predict_noise(inputs, target)
    return NoisePrediction(mean_queries, noise, predicted)

  def further_tokens(
    self, clips: Float[Array, 'b c d'], *, train: bool
  ) -> tuple[Float[Array, 'b r d'] | None, Registers | None]:
    """Returns the registers as tokens, and all that their losses need."""
    if not self.num_registers:
      return None, None
    registers = self.registers(clips, train=train)
    self.sow('intermediates', 'clip_input_tokens', clips)
    self.sow('intermediates', 'generated_registers', registers)
    return registers.tokens, registers
