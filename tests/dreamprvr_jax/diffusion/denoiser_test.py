"""Tests of the register estimator."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.diffusion.denoiser import RegisterEstimator
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.sinusoids import sinusoid_table
from tests.helpers.models import apply

T, LAYERS, WIDTH = 3, 2, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(T, 2, 5, WIDTH)).astype(np.float32)
CONDITION = RNG.normal(size=(2, 5, WIDTH)).astype(np.float32)


class Whole(RegisterEstimator):
  """The estimator, applied to a condition."""

  def whole(self, x, condition):
    return self(x, self.step_terms(), self.condition_terms(condition))


def make(**options):
  options = {'time_embedding': 'released', 'dtype': jnp.float32, **options}
  model = Whole(T, LAYERS, WIDTH, **options)
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), X, CONDITION, method='whole')
  )
  rng = np.random.default_rng(1)
  return model, jax.tree.map(
    lambda p: rng.normal(size=p.shape).astype(np.float32), shapes
  )


def swish(x):
  return x / (1 + np.exp(-x))


def numpy_estimator(variables, x, condition):
  """Returns the equations, one step's registers at a time."""
  params = variables['params']

  def linear(name, x):
    return x @ params[name]['kernel'] + params[name]['bias']

  def norm(name, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred / deviation * params[name]['scale'] + params[name]['bias']

  table = variables['constants']['time_table'].astype(np.float64)
  context = linear(
    'condition_in', np.maximum(norm('condition_norm', condition), 0)
  )
  out = []
  for t in range(T):
    embedding = linear('time_out', swish(linear('time_hidden', table[t])))
    h = x[t].astype(np.float64)
    for i in range(LAYERS):
      u = linear(f'linear_in_{i}', swish(norm(f'norm_in_{i}', h)))
      u = u + linear(f'time_map_{i}', swish(embedding))
      u = u + linear(f'condition_map_{i}', swish(context))
      u = linear(f'linear_out_{i}', swish(norm(f'norm_out_{i}', u)))
      h = u + linear(f'shortcut_{i}', h)
    out.append(linear('readout', h + x[t]))
  return np.stack(out)


def test_equals_the_equations():
  model, variables = make()
  got = apply(model, variables, X, CONDITION, method='whole')
  expected = numpy_estimator(variables, X, CONDITION)
  np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-3)


def test_stacked_steps_equal_one_by_one():
  model, variables = make()

  @jax.jit
  def run(variables):
    bound = model.bind(variables)
    terms, condition = bound.step_terms(), bound.condition_terms(CONDITION)
    assert terms.shape == (T, LAYERS, WIDTH)
    assert condition.shape == (LAYERS, 2, 5, WIDTH)
    singly = [bound(X[t], terms[t], condition) for t in range(T)]
    return bound(X, terms, condition), jnp.stack(singly)

  together, singly = run(variables)
  np.testing.assert_allclose(together, singly, rtol=1e-4, atol=1e-4)
  assert not np.allclose(together[0], together[1])


def test_the_released_time_table_is_random_and_fixed():
  model = Whole(100, LAYERS, 64, 'released', jnp.float32)

  def init(seed):
    return model.init(
      jax.random.key(seed),
      jnp.zeros((1, 1, 64)),
      method=lambda m, x: m(x, m.step_terms()[0], m.condition_terms(x)),
    )

  variables = jax.jit(init)(0)
  assert set(variables) == {'params', 'constants'}
  table = np.asarray(variables['constants']['time_table'])
  assert table.shape == (100, 64)
  assert 0.019 < table.std() < 0.021
  names = [
    str(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(variables['params'])
  ]
  assert not any('table' in name for name in names)


def test_sinusoidal_time_has_no_constants():
  model, variables = make(time_embedding='sinusoidal')
  assert set(variables) == {'params'}
  # This equals the released form with that table.
  table = {'time_table': sinusoid_table(T, WIDTH)}
  np.testing.assert_allclose(
    apply(model, variables, X, CONDITION, method='whole'),
    apply(
      make()[0], {**variables, 'constants': table}, X, CONDITION, method='whole'
    ),
    rtol=1e-5,
  )


def test_sinusoid_table():
  table = sinusoid_table(3, 4)
  expected = [
    [math.sin(t), math.cos(t), math.sin(t / 100), math.cos(t / 100)]
    for t in range(3)
  ]
  np.testing.assert_allclose(table, expected, rtol=1e-6)
  assert table.dtype == np.float32


def test_unknown_time_embedding():
  with pytest.raises(UserError, match=r"'cosine' is unknown.*'sinusoidal'"):
    make(time_embedding='cosine')
