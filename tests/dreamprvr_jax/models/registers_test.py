"""Tests of register generation and of its ablated forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.registers import (
  SOURCES,
  STARTS,
  RegisterGenerator,
  VariationalSampler,
  adaptive_mean,
)
from tests.helpers.models import apply, initial

BATCH, CLIPS, WIDTH, REGISTERS, T = 3, 5, 4, 2, 3
TOKENS = (np.random.default_rng(0).normal(size=(BATCH, CLIPS, WIDTH))).astype(
  np.float32
)


def build(source='diffusion', start='mean', **options):
  given = {
    'time_embedding': 'released',
    'sampling_method': 'ddpm',
    'sampling_steps': 0,
    'dtype': jnp.float32,
    **options,
  }
  return RegisterGenerator(
    WIDTH, REGISTERS, 2, 0.0, T, 2, source, start, **given
  )


@functools.cache
def variables_of(source, start):
  model = build(source, start)
  rngs = {'params': jax.random.key(0), 'registers': jax.random.key(1)}
  shapes = jax.eval_shape(lambda: model.init(rngs, TOKENS, train=False))
  rng = np.random.default_rng(2)
  return jax.tree.map(
    lambda p: (0.3 * rng.normal(size=p.shape)).astype(np.float32),
    {k: v for k, v in shapes.items() if k != 'intermediates'},
  )


@functools.cache
def runner(source, start, train):
  model = build(source, start)
  return jax.jit(
    lambda variables, tokens, key: model.apply(
      variables, tokens, train=train, rngs={'registers': key}
    )
  )


def run(
  source='diffusion', start='mean', *, tokens=TOKENS, train=False, seed=0
):
  variables = variables_of(source, start)
  return jax.device_get(
    runner(source, start, train)(variables, tokens, jax.random.key(seed))
  )


@jax.jit
def estimated(variables, x, step, condition_terms):
  """Returns the predicted noise of one step."""
  estimator = build().bind(variables).estimator
  return estimator(x, estimator.step_terms()[step], condition_terms)


PARTS = {
  ('diffusion', 'mean'): {
    'context',
    'sampler',
    'queries',
    'condition',
    'estimator',
  },
  ('diffusion', 'stochastic'): {
    'context',
    'sampler',
    'queries',
    'condition',
    'estimator',
  },
  ('diffusion', 'random'): {'context', 'queries', 'condition', 'estimator'},
  ('sampler', 'mean'): {'context', 'sampler'},
  ('sampler', 'stochastic'): {'context', 'sampler'},
  ('sampler', 'random'): set(),
  ('adaptive_pooling', 'mean'): set(),
}


def test_every_choice_is_tested():
  assert {source for source, _ in PARTS} == set(SOURCES)
  assert {start for _, start in PARTS} == set(STARTS)


@pytest.mark.parametrize(('source', 'start'), PARTS)
def test_parts(source, start):
  variables = variables_of(source, start)
  assert set(variables.get('params', {})) == PARTS[source, start]
  assert ('constants' in variables) == (source == 'diffusion')
  out = run(source, start)
  assert out.tokens.shape == (BATCH, REGISTERS, WIDTH)
  assert out.tokens.dtype == jnp.float32
  assert np.isfinite(out.tokens).all()
  sampled = 'sampler' in PARTS[source, start]
  assert (out.gaussian is not None) == sampled
  assert (out.diffusion is not None) == (source == 'diffusion')


def test_the_released_system_draws_nothing():
  first = run(train=True, seed=0)
  np.testing.assert_array_equal(first.tokens, run(train=True, seed=1).tokens)
  np.testing.assert_array_equal(first.tokens, run(train=False).tokens)
  mu = first.gaussian.mu[:, None]
  np.testing.assert_array_equal(
    first.diffusion.noise, np.repeat(mu, REGISTERS, axis=1)
  )


@pytest.mark.parametrize('start', ['stochastic', 'random'])
@pytest.mark.parametrize('source', ['diffusion', 'sampler'])
def test_drawn_registers(source, start):
  # Training makes new draws for every video, register and step's key.
  same = np.repeat(TOKENS[:1], 2, axis=0)

  def training(seed):
    return np.asarray(
      run(source, start, tokens=same, train=True, seed=seed).tokens
    )

  first = training(0)
  assert not np.allclose(first, training(1))
  assert not np.allclose(first[0], first[1])
  assert not np.allclose(first[:, 0], first[:, 1])

  # Outside training, registers depend only on the video.
  def evaluate(tokens, seed):
    return np.asarray(run(source, start, tokens=tokens, seed=seed).tokens)

  whole = evaluate(TOKENS, 0)
  np.testing.assert_array_equal(whole, evaluate(TOKENS, 5))
  np.testing.assert_allclose(
    whole[1:2], evaluate(TOKENS[1:2], 0), rtol=1e-3, atol=1e-3
  )
  twins = evaluate(same, 0)
  np.testing.assert_allclose(twins[0], twins[1], rtol=1e-3, atol=1e-3)
  assert not np.allclose(whole[:, 0], whole[:, 1])


def test_sampler_alone_repeats_the_mean():
  out = run('sampler', 'mean')
  np.testing.assert_array_equal(out.tokens[:, 0], out.gaussian.mu)
  np.testing.assert_array_equal(out.tokens[:, 1], out.gaussian.mu)


def test_stochastic_start_is_the_reparametrised_draw():
  out = run('sampler', 'stochastic')
  mu, logvar = out.gaussian.mu, out.gaussian.logvar
  draw = (out.tokens - mu[:, None]) / np.exp(logvar / 2)[:, None]
  # One standard normal draw, the same for all videos.
  np.testing.assert_allclose(draw[0], draw[1], rtol=1e-3, atol=1e-3)
  np.testing.assert_allclose(
    draw[0], run('sampler', 'random').tokens[0], rtol=1e-3, atol=1e-3
  )


def test_reverse_process_adds_mu_at_every_step():
  variables = variables_of('diffusion', 'mean')
  out = run()
  f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
  beta = np.minimum(1 - f[1:] / f[:-1], 0.999)
  abar = np.append(np.cumprod(1 - beta), 1.0)  # abar[-1] = 1
  mu = np.repeat(np.asarray(out.gaussian.mu)[:, None], REGISTERS, axis=1)
  x = mu
  for t in reversed(range(T)):
    e = estimated(variables, x, t, out.diffusion.condition_terms)
    e = np.asarray(e)
    x_0 = x / np.sqrt(abar[t]) - np.sqrt(1 / abar[t] - 1) * e
    x_0 = np.clip(x_0, -1, 1)
    x = (
      beta[t] * np.sqrt(abar[t - 1]) * x_0
      + (1 - abar[t - 1]) * np.sqrt(1 - beta[t]) * x
    ) / (1 - abar[t])
    if t > 0:
      variance = beta[t] * (1 - abar[t - 1]) / (1 - abar[t])
      x = (x + np.sqrt(variance) * mu).astype(np.float32)
  np.testing.assert_allclose(out.tokens, x, atol=2e-3)
  assert (np.abs(x) < 0.99).any()


def test_predicted_noise_of_every_step():
  model, variables = build(), variables_of('diffusion', 'mean')
  out = run()
  target = np.random.default_rng(3).normal(size=out.diffusion.noise.shape)
  target = target.astype(np.float32)
  got = apply(model, variables, out.diffusion, target, method='predict_noise')
  assert got.shape == (T, BATCH, REGISTERS, WIDTH)
  f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
  for t in (0, 1):
    abar = f[t + 1] / f[0]
    x_t = np.sqrt(abar) * target + np.sqrt(1 - abar) * out.diffusion.noise
    expected = estimated(
      variables, x_t.astype(np.float32), t, out.diffusion.condition_terms
    )
    np.testing.assert_allclose(got[t], expected, rtol=1e-3, atol=1e-3)


def test_fewer_steps_need_ddim():
  variables = variables_of('diffusion', 'mean')
  model = build(sampling_method='ddim', sampling_steps=2)
  made = apply(model, variables, TOKENS, train=False)
  assert np.isfinite(made.tokens).all()
  with pytest.raises(UserError, match='use ddim for fewer'):
    apply(build(sampling_steps=2), variables, TOKENS, train=False)


@pytest.mark.parametrize(
  ('option', 'match'),
  [
    ({'source': 'pooling'}, "register source 'pooling' is unknown.*'sampler'"),
    ({'start': 'zero'}, "register start 'zero' is unknown.*'stochastic'"),
  ],
)
def test_unknown_choice(option, match):
  with pytest.raises(UserError, match=match):
    build(**option).init(jax.random.key(0), TOKENS, train=False)


def test_variational_sampler():
  model = VariationalSampler()
  variables = initial(model, TOKENS)
  found = apply(model, variables, TOKENS)
  mu, logvar = found.mu, found.logvar
  np.testing.assert_allclose(np.linalg.norm(mu, axis=1), 1, rtol=1e-5)
  # The last layer is a norm with bias 0, so mu has mean 0.
  np.testing.assert_allclose(mu.sum(axis=1), 0, atol=1e-5)
  assert logvar.shape == (BATCH, WIDTH)
  # Both inputs of the log-variance have a bias.
  params = variables['params']
  for name in ('logvar_attended', 'logvar_pooled'):
    params[name]['kernel'] = np.zeros_like(params[name]['kernel'])
    params[name]['bias'] = params[name]['bias'] + 1.5
  found = apply(model, variables, TOKENS)
  np.testing.assert_allclose(found.logvar, 3.0, rtol=1e-6)


def test_adaptive_mean_by_hand():
  tokens = jnp.arange(5.0).reshape(1, 5, 1)
  # The stretches are 0-2 and 2-4, then 0-1, 1-3 and 3-4.
  np.testing.assert_allclose(adaptive_mean(tokens, 2)[0, :, 0], [1.0, 3.0])
  np.testing.assert_allclose(
    adaptive_mean(tokens, 3)[0, :, 0], [0.5, 2.0, 3.5], rtol=1e-6
  )
  np.testing.assert_allclose(
    adaptive_mean(tokens[:, :4], 2)[0, :, 0], [0.5, 2.5]
  )
  np.testing.assert_array_equal(adaptive_mean(tokens, 5), tokens)


def test_adaptive_pooling_takes_the_clip_tokens():
  np.testing.assert_allclose(
    run('adaptive_pooling', 'mean').tokens,
    adaptive_mean(TOKENS, REGISTERS),
    rtol=1e-5,
    atol=1e-6,
  )
