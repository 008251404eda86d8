"""The reports of introspection, against the model's computation."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.attention import Attention
from dreamprvr_jax.models.introspection import (
  attention_weights,
  register_attention,
  register_path,
)
from dreamprvr_jax.models.template import blank_batch, variable_shapes
from tests.helpers import models

CLIPS, FRAMES, WIDTH, REGISTERS, T = 4, 6, 8, 3, 4
SIZES = {'num_clips': CLIPS, 'max_frames': FRAMES, 'max_words': 3}
RNG = np.random.default_rng(0)
VIDEOS = (
  RNG.normal(size=(2, CLIPS, 5)).astype(np.float32),
  RNG.normal(size=(2, FRAMES, 5)).astype(np.float32),
  np.arange(FRAMES) < np.array([[FRAMES], [2]]),
)


def build(**options):
  return models.make(
    'dreamprvr',
    width=WIDTH,
    num_registers=REGISTERS,
    diffusion_steps=T,
    diffusion_layers=1,
    block_widths=(0.0, 0.5),
    **{'num_heads': 1, **SIZES, **options},
  )


def some_variables(model):
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda s: rng.normal(0, 0.5, s.shape).astype(np.float32),
    variable_shapes(model, blank_batch(5, 3, **SIZES)),
  )


@functools.cache
def observed():
  """Returns attention by introspection, and weights of all Attention modules.

  Blocks are computed one after the other, so that each can be observed.
  """
  model = build(parallel_execution='unrolled')

  @jax.jit
  def look(variables):
    seen = []

    def watch(call, args, kwargs, context):
      module = context.module
      # There are no parameters while Flax computes shapes of initialisers.
      if type(module) is Attention and 'params' in module.variables:
        seen.append((module.variables['params'], args, dict(kwargs)))
      return call(*args, **kwargs)

    with nn.intercept_methods(watch):
      model.apply(variables, *VIDEOS, method='encode_video')
    weights = []
    for params, tokens, limits in seen:
      limits.pop('train')
      assert limits.pop('key_bias', None) is None
      weights.append(attention_weights(params, *tokens, **limits))
    return register_attention(model, variables, *VIDEOS), weights

  found, weights = look(some_variables(model))
  # These are the registers' context and condition, and two blocks per branch.
  assert len(weights) == 2 + 2 * len(model.block_widths)
  weights = jax.device_get(weights)
  return jax.device_get(found), weights[1], weights[2:4], weights[4:]


@pytest.mark.parametrize('restricted', [False, True])
def test_weights_are_those_of_the_module(restricted):
  module = Attention(num_heads=2, dropout=0.0)
  rng = np.random.default_rng(3)
  queries = rng.normal(size=(2, 3, WIDTH)).astype(np.float32)
  keys = rng.normal(size=(2, 5, WIDTH)).astype(np.float32)
  limits = {}
  if restricted:
    limits['mask'] = np.arange(5) < np.array([[[5]], [[2]]])
    limits['table'] = rng.uniform(size=(3, 5)).astype(np.float32)
  variables = models.initial(module, queries, keys, train=False)
  params = variables['params']
  weights = jax.jit(attention_weights)(params, queries, keys, **limits)
  value = params['value']
  values = np.einsum('bsd,dhk->bshk', keys, value['kernel']) + value['bias']
  np.testing.assert_allclose(
    np.einsum('bhqs,bshk->bqhk', weights, values).reshape(queries.shape),
    models.apply(module, variables, queries, keys, train=False, **limits),
    atol=1e-6,
  )


def test_attention_of_registers():
  found, condition, _, _ = observed()
  np.testing.assert_allclose(found.of_registers, condition[:, 0], atol=1e-6)
  np.testing.assert_allclose(found.of_registers.sum(-1), 1, rtol=1e-6)


def test_attention_to_registers():
  found, _, clips, frames = observed()
  for shares, blocks, length in (
    (found.of_clips, clips, CLIPS),
    (found.of_frames, frames, FRAMES),
  ):
    assert shares.shape == (2, len(blocks), length, REGISTERS)
    for number, weights in enumerate(blocks):
      np.testing.assert_allclose(
        shares[:, number], weights[:, 0, :length, length:], atol=1e-6
      )


def test_heads_are_averaged():
  model = build(num_heads=2)
  found = jax.device_get(
    jax.jit(functools.partial(register_attention, model))(
      some_variables(model), *VIDEOS
    )
  )
  assert found.of_registers.shape == (2, REGISTERS, CLIPS)
  np.testing.assert_allclose(found.of_registers.sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize(
  ('start', 'method', 'steps', 'states'),
  [
    ('mean', 'ddpm', 0, T + 1),
    ('stochastic', 'ddpm', 0, T + 1),
    ('random', 'ddim', 0, T + 1),
    ('mean', 'ddim', 2, 3),
  ],
)
def test_path_ends_at_the_registers(start, method, steps, states):
  model = build(
    register_start=start, sampling_method=method, sampling_steps=steps
  )

  @jax.jit
  def both(variables):
    bound = model.bind(variables)
    clips = bound.clip_input(VIDEOS[0], train=False)
    made = bound.registers(clips, train=False)
    return register_path(model, variables, VIDEOS[0]), made

  path, made = jax.device_get(both(some_variables(model)))
  assert path.shape == (states, 2, REGISTERS, WIDTH)
  np.testing.assert_allclose(path[0], made.diffusion.noise, atol=1e-6)
  # The first step divides by a root of alpha_bar near 0.
  np.testing.assert_allclose(path[-1], made.tokens, atol=2e-4)


@pytest.mark.parametrize(
  ('options', 'sentence'),
  [
    ({'register_source': 'sampler'}, "come from 'sampler'"),
    ({'num_registers': 0}, 'has no registers'),
  ],
)
def test_models_without_them_are_refused(options, sentence):
  model = build().clone(**options)
  with pytest.raises(UserError, match=sentence):
    register_path(model, {}, VIDEOS[0])
  with pytest.raises(UserError, match=sentence):
    register_attention(model, {}, *VIDEOS)
