"""DreamPRVR (CVPR 2026, arXiv 2604.03653): imagine, then concentrate."""

import dataclasses
from typing import Any

import jax
from jaxtyping import Array, Float

from dreamprvr_jax.models import base
from dreamprvr_jax.models.consolidated import ConsolidatedModel
from dreamprvr_jax.models.perturbation import perturb_queries
from dreamprvr_jax.models.registers import RegisterGenerator
from dreamprvr_jax.types import Batch

# 0: the block without a Gaussian window.
WIDTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


class DreamPRVR(ConsolidatedModel):
  """The model; sizes are plain fields, their names the paper's terms."""

  block_widths: tuple[float, ...] = WIDTHS
  learned_token: bool = False
  num_registers: int = 4
  register_source: str = 'diffusion'
  register_start: str = 'mean'
  diffusion_steps: int = 10
  diffusion_layers: int = 2
  time_embedding: str = 'released'
  sampling_method: str = 'ddpm'
  sampling_steps: int = 0
  perturbation_scale: float = 0.1
  clip_weight: float = 0.6
  frame_weight: float = 0.4

  def provided(self) -> set[str]:
    """Returns what the losses may ask for."""
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

  def __call__(
    self,
    batch: Batch,
    *,
    train: bool = False,
    perturbation_draws: Float[Array, '2 b r d'] | None = None,
  ) -> base.RetrievalOutput:
    """Returns everything that the objective needs of one batch.

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
    mean_queries = base.mean_per_video(output.text_queries, batch)
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
    return dataclasses.replace(
      output,
      mean_queries=mean_queries,
      mu=mu,
      logvar=logvar,
      noise=noise,
      predicted_noise=predicted,
    )

  def further_tokens(
    self, clips: Float[Array, 'b c d'], *, train: bool
  ) -> tuple[Float[Array, 'b r d'] | None, Any]:
    """Returns the registers, as tokens and with all that led to them."""
    if not self.num_registers:
      return None, None
    registers = self.registers(clips, train=train)
    self.sow('intermediates', 'clip_input_tokens', clips)
    self.sow('intermediates', 'generated_registers', registers)
    return registers.tokens, registers
