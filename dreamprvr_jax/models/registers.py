"""Register generation ("imagine"): global tokens from the clip branch."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from dreamprvr_jax.diffusion import process, sampler
from dreamprvr_jax.diffusion.denoiser import RegisterEstimator
from dreamprvr_jax.diffusion.schedule import cosine_schedule
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.blocks import AttentionBlock, CrossAttentionBlock
from dreamprvr_jax.layers.pooling import GeneralizedPooling, TokenAttention
from dreamprvr_jax.models.gaussians import gaussian
from dreamprvr_jax.models.outputs import VideoGaussian
from dreamprvr_jax.types import DType

# Where the registers come from: the system, and the rows of its ablation.
SOURCES = ('diffusion', 'sampler', 'adaptive_pooling')
# The start of generation, which is also the noise that its steps add.
STARTS = ('mean', 'stochastic', 'random')


@struct.dataclass
class DiffusionInputs:
  """The inputs of the diffusion estimator besides its target; float32."""

  noise: Float[Array, 'b r d']
  condition_terms: Float[Array, 'i b r d']


@struct.dataclass
class Registers:
  """Generated registers, and the inputs of their losses; float32."""

  tokens: Float[Array, 'b r d']
  gaussian: VideoGaussian | None = None
  diffusion: DiffusionInputs | None = None


class VariationalSampler(nn.Module):
  """Probabilistic variational sampler: a Gaussian per video.

  Source: docs/method.md, "Variational sampler".
  """

  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, tokens: Float[Array, 'b c d']) -> VideoGaussian:
    """Returns the Gaussians, float32; mu has norm 1."""
    pooled = GeneralizedPooling(name='pooling')(tokens)
    mu, logvar = gaussian(
      pooled, lambda name: TokenAttention(self.dtype, name=name)(tokens)
    )
    return VideoGaussian(mu, logvar)


class RegisterGenerator(nn.Module):
  """K registers of a video from its clip tokens.

  Source: docs/method.md, "Register generation".

  Which parts exist depends on `source` and `start`:
    source 'diffusion': the released system.
    source 'sampler': the starting registers, without estimator.
    source 'adaptive_pooling': means of K equal stretches of the clip tokens.
    start 'mean': released; every register starts at mu, and mu is the noise.
    start 'stochastic': the paper's mu + exp(logvar / 2) eps, with a draw for
      every register and step.
    start 'random': N(0, 1) instead of the variational sampler.
  In training, draws come from the random stream 'registers'. Otherwise all
  videos share one fixed draw, so that an encoding depends neither on the batch
  nor on the run.
  """

  width: int
  num_registers: int
  num_heads: int
  dropout: float
  num_steps: int
  num_layers: int
  source: str
  start: str
  time_embedding: str
  sampling_method: str
  sampling_steps: int  # 0: all of them
  dtype: DType

  def setup(self):
    _check_choice('register source', self.source, SOURCES)
    _check_choice('register start', self.start, STARTS)
    if self.source == 'adaptive_pooling':
      return
    if (self.source, self.start) != ('sampler', 'random'):
      self.context = AttentionBlock(self.num_heads, self.dropout, self.dtype)
    if self.start != 'random':
      self.sampler = VariationalSampler(self.dtype)
    if self.source == 'diffusion':
      self.schedule = cosine_schedule(self.num_steps)
      self.queries = initializers.parameter(
        self,
        'queries',
        nn.initializers.normal(1.0),
        (self.num_registers, self.width),
      )
      self.condition = CrossAttentionBlock(
        self.num_heads, self.dropout, self.dtype
      )
      # float32 whatever the compute dtype: the first step of sampling
      # multiplies rounding errors by 1 / sqrt(abar_T), which is 204.
      self.estimator = RegisterEstimator(
        self.num_steps,
        self.num_layers,
        self.width,
        self.time_embedding,
        jnp.float32,
      )

  def __call__(
    self, clip_tokens: Float[Array, 'b c d'], *, train: bool
  ) -> Registers:
    """Returns the registers of a batch of videos."""
    if self.source == 'adaptive_pooling':
      tokens = adaptive_mean(clip_tokens, self.num_registers)
      return Registers(tokens=tokens.astype(jnp.float32))

    # Pure noise needs no context, and the module has no parameters for it.
    context = clip_tokens
    if (self.source, self.start) != ('sampler', 'random'):
      context = self.context(clip_tokens, train=train)
    gaussian = None if self.start == 'random' else self.sampler(context)
    draw = self.noise_source(len(clip_tokens), gaussian, train=train)
    start = draw(self.num_steps)
    if self.source == 'sampler':
      return Registers(tokens=start, gaussian=gaussian)

    queries = jnp.broadcast_to(
      self.queries.astype(self.dtype),
      (len(clip_tokens), self.num_registers, self.width),
    )
    condition = self.condition(queries, context, train=train)
    self.sow('intermediates', 'context_tokens', context)
    self.sow('intermediates', 'condition_tokens', condition)
    terms = self.estimator.condition_terms(condition)
    step_terms = self.estimator.step_terms()
    if self.is_initializing():
      # Creates the parameters that the loop below only reads.
      self.estimator(start, step_terms[0], terms)
    estimator, variables = self.estimator.unbind()
    tokens = sampler.sample(
      self.schedule,
      lambda x, term: estimator.apply(variables, x, term, terms),
      start,
      step_inputs=step_terms,
      noise=draw,
      method=self.sampling_method,
      num_steps=self.sampling_steps or None,
    )
    return Registers(
      tokens=tokens,
      gaussian=gaussian,
      diffusion=DiffusionInputs(start, terms),
    )

  def predict_noise(
    self, inputs: DiffusionInputs, target: Float[Array, 'b r d']
  ) -> Float[Array, 't b r d']:
    """Returns eps_phi(x_t, t, cond) for all steps at once, float32.

    Args:
      inputs: `diffusion` of the batch's registers; its noise takes `target`
        to x_t.
      target: x_0, the perturbed text query of each register.
    """
    x_t = process.q_sample(self.schedule, target, inputs.noise)
    predicted = self.estimator(
      x_t, self.estimator.step_terms(), inputs.condition_terms
    )
    return predicted.astype(jnp.float32)

  def noise_source(
    self, batch: int, gaussian: VideoGaussian | None, *, train: bool
  ) -> Callable[[Any], Float[Array, 'b r d']]:
    """Returns the function from a step number to that step's noise."""
    shape = (batch, self.num_registers, self.width)
    if gaussian is not None and self.start == 'mean':
      repeated = jnp.broadcast_to(gaussian.mu[:, None], shape)
      return lambda step: repeated
    key = self.make_rng('registers') if train else jax.random.key(0)

    def draw(step):
      eps = jax.random.normal(
        jax.random.fold_in(key, step), shape if train else (1, *shape[1:])
      )
      if gaussian is None:
        return jnp.broadcast_to(eps, shape)
      spread = jnp.exp(gaussian.logvar / 2)
      return gaussian.mu[:, None] + spread[:, None] * eps

    return draw


def adaptive_mean(
  tokens: Float[Array, 'b c d'], num_registers: int
) -> Float[Array, 'b r d']:
  """Returns means over r stretches that cover the tokens.

  Stretch i runs from floor(i c / r) to ceil((i + 1) c / r); stretches overlap
  if r does not divide c.
  """
  length = tokens.shape[1]
  weights = np.zeros((num_registers, length), np.float32)
  for i in range(num_registers):
    first = i * length // num_registers
    last = math.ceil((i + 1) * length / num_registers)
    weights[i, first:last] = 1 / (last - first)
  return jnp.einsum('rc,bcd->brd', jnp.asarray(weights, tokens.dtype), tokens)


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
  if value not in choices:
    raise UserError(f'{what} {value!r} is unknown; choose from {choices}')
