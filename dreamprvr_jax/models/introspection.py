"""Attention of and to the registers of a DreamPRVR, and their path through
the steps of sampling."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.diffusion import sampler
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.blocks import CrossAttentionBlock
from dreamprvr_jax.layers.parallel_blocks import ParallelBlocks
from dreamprvr_jax.models.dreamprvr import DreamPRVR
from dreamprvr_jax.models.perturbation import perturb_queries
from dreamprvr_jax.numerics import ATTENTION_PENALTY


@struct.dataclass
class RegisterAttention:
  """Attention weights of a batch of videos, means over heads; float32.

  A row of `of_registers` sums to 1. A row of the others sums to the share of
  its attention that a token gives to registers; the rest goes to the video's
  tokens.
  """

  of_registers: Float[Array, 'b r c']  # register queries to clip tokens
  of_clips: Float[Array, 'b a c r']  # clip tokens to registers, by block
  of_frames: Float[Array, 'b a f r']  # frame tokens to registers, by block


def register_attention(
  model: DreamPRVR,
  variables: Any,
  clip_features: Float[Array, 'b c e'],
  frame_features: Float[Array, 'b f e'],
  frame_mask: Bool[Array, 'b f'],
) -> RegisterAttention:
  """Returns the attention that generates registers, and the attention of video
  tokens to them.

  The clip tokens that a register query attends to have passed a block of self
  attention, so each contains information of the others.

  Raises:
    UserError: If the model's registers do not come from a diffusion process.
  """
  _check(model)
  given: dict[str, Any] = {}

  def watch(call, arguments, options, context):
    parts = (CrossAttentionBlock, ParallelBlocks)
    if isinstance(context.module, parts) and context.method_name == '__call__':
      given['/'.join(context.module.path)] = arguments
    return call(*arguments, **options)

  with nn.intercept_methods(watch):
    model.apply(
      variables,
      *(clip_features, frame_features, frame_mask),
      method='encode_video',
    )
  params = variables['params']
  queries, context = given['registers/condition']
  weights = attention_weights(
    params['registers']['condition']['attention'], queries, context
  )

  def to_registers(encoder: str) -> Float[Array, 'b a s r']:
    x, tables, mask = given[f'{encoder}/parallel']
    return _attention_to_registers(
      params[encoder]['parallel']['block']['attention'],
      *(x, tables, mask, model.num_registers),
    )

  return RegisterAttention(
    of_registers=weights.mean(axis=1),
    of_clips=to_registers('clip_encoder'),
    of_frames=to_registers('frame_encoder'),
  )


def register_path(
  model: DreamPRVR, variables: Any, clip_features: Float[Array, 'b c e']
) -> Float[Array, 't b r d']:
  """Returns the registers before, between and after the steps of sampling.

  float32; the first of the t = steps + 1 states is the starting point x_T,
  the last is the registers that the model uses.

  Raises:
    UserError: If the model's registers do not come from a diffusion process.
  """
  _check(model)
  registers = model.bind(variables).registers
  clips = model.bind(variables).clip_input(clip_features, train=False)
  made = registers(clips, train=False)
  inputs = made.diffusion
  assert inputs is not None
  draw = registers.noise_source(len(clips), made.gaussian, train=False)
  estimator, estimator_variables = registers.estimator.unbind()
  return sampler.sample(
    registers.schedule,
    lambda x, term: estimator.apply(
      estimator_variables, x, term, inputs.condition_terms
    ),
    inputs.noise,
    step_inputs=registers.estimator.step_terms(),
    noise=draw,
    method=model.sampling_method,
    num_steps=model.sampling_steps or None,
    keep_states=True,
  )


def caption_targets(
  model: DreamPRVR,
  variables: Any,
  word_features: Float[Array, 'n l e'],
  word_mask: Bool[Array, 'n l'],
  caption_video: Int[Array, ' n'],
  draws: Float[Array, '2 b k d'],
) -> Float[Array, 'b k d']:
  """Returns k targets of the diffusion for each video, float32: its mean
  caption vector, whitened and perturbed.

  Args:
    model: The model.
    variables: Its variables.
    word_features: All captions of b videos.
    word_mask: Their real words.
    caption_video: Row of each caption's video, below b.
    draws: Standard normal draws; zeros leave the mean unperturbed.
  """
  queries: Any = model.apply(
    variables, word_features, word_mask, method='encode_query'
  )
  own = (caption_video == jnp.arange(draws.shape[1])[:, None]) * 1.0
  mean = own @ queries / own.sum(axis=1, keepdims=True)
  return perturb_queries(mean, *draws, scale=model.perturbation_scale)


def attention_weights(
  params: Mapping[str, Any],
  queries: Float[Array, 'b q d'],
  keys: Float[Array, 'b s d'],
  *,
  mask: Bool[Array, '... s'] | None = None,
  table: Float[Array, 'q s'] | None = None,
) -> Float[Array, 'b h q s']:
  """Returns the weights by which `layers.attention.Attention` mixes values.

  Args:
    params: The module's parameters.
    queries: Tokens that attend.
    keys: Tokens that they attend to.
    mask: Real keys.
    table: Factors of the logits.
  """
  project = lambda name, x: (
    jnp.einsum('bsd,dhk->bshk', x, params[name]['kernel'])
    + params[name]['bias']
  )
  q, k = project('query', queries), project('key', keys)
  logits = jnp.einsum('bqhk,bshk->bhqs', q, k) * q.shape[-1] ** -0.5
  if table is not None:
    logits = logits * table
  if mask is not None:
    logits = logits + jnp.where(mask, 0.0, ATTENTION_PENALTY)[:, None]
  return jax.nn.softmax(logits, axis=-1)


def _attention_to_registers(
  params: Mapping[str, Any],
  x: Float[Array, 'b s d'],
  tables: Float[Array, 'a q s'],
  mask: Bool[Array, 'b 1 s'] | None,
  num_registers: int,
) -> Float[Array, 'b a q r']:
  """Returns the weights of the registers, which follow the q video tokens."""
  length = x.shape[1] - num_registers
  weights = jax.vmap(
    lambda block, table: attention_weights(
      block, x[:, :length], x, mask=mask, table=table
    ),
    out_axes=1,
  )(params, tables)  # (b, a, h, q, s)
  return weights.mean(axis=2)[..., length:]


def _check(model: DreamPRVR) -> None:
  if not isinstance(model, DreamPRVR) or not model.num_registers:
    raise UserError(
      f'this {type(model).__name__} has no registers; give a DreamPRVR '
      'with config.model.num_registers > 0'
    )
  if model.register_source != 'diffusion':
    raise UserError(
      f'the registers of this model come from {model.register_source!r}; only '
      "those of config.model.register_source='diffusion' attend and move"
    )
