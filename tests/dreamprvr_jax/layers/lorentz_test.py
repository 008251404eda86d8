"""The Lorentz model against values of the released functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers import lorentz
from tests.helpers import golden as files
from tests.helpers.models import apply

U = np.float32([0.3, 0.4, 0.5])
X = np.float32([1.26059184, 0.32563251, 0.43417666, 0.54272082])


def test_origin_exponential_by_the_equations():
  @jax.jit
  def points(*vectors):
    x, y = (lorentz.origin_exponential(u) for u in vectors)
    return x, lorentz.inner_products(x[None], y[None])

  x, inner = points(U, np.float32([-1, 0.2, 0]))
  np.testing.assert_allclose(x, X, rtol=1e-6)
  np.testing.assert_allclose(inner, [[-2.25731183]], rtol=1e-6)


@pytest.mark.parametrize(
  ('heads', 'expected'),
  [
    (1, [[7.39839370, 5.85075677, 0.55661284, 4.38121635]]),
    (2, [[7.39839370, 7.33049994], [6.24942952, 6.16890341]]),
  ],
)
def test_lorentz_linear_by_the_equations(heads, expected):
  rows = np.float32(
    [(0.1, 0.2, 0.3, 0.4), (0.5, -0.1, 0.2, 0), (0, 0.3, -0.2, 0.1), (0.2,) * 4]
  )
  variables = {
    'params': {
      'kernel': rows.T.reshape(4, heads, 4 // heads),
      'scale': np.float32(2.3),
    }
  }
  layer = lorentz.LorentzLinear(heads, 0.0)
  found = apply(layer, variables, X[None, None], train=False)
  np.testing.assert_allclose(found[0, :, 0], expected, rtol=1e-5)


def test_lorentz_linear_of_nothing_is_finite():
  """Dropout may leave nothing of a narrow point, and then no direction."""
  variables = {
    'params': {
      'kernel': np.full((4, 2, 2), 0.1, np.float32),
      'scale': np.float32(2.3),
    }
  }

  def total(x):
    found = apply(lorentz.LorentzLinear(2, 0.0), variables, x, train=False)
    return jnp.sum(found), found

  given = np.zeros((1, 1, 4))
  gradient, found = jax.jit(jax.grad(total, has_aux=True))(given)
  np.testing.assert_array_equal(np.asarray(found)[..., 1:], 0)
  assert np.isfinite(found).all()
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
  ('name', 'function'),
  [
    ('expmap0', lorentz.origin_exponential),
    ('logmap0', lorentz.origin_logarithm),
  ],
)
def test_maps_and_their_guards(name, function):
  unit = files.part(files.load('hlformer_tiny'), 'unit')
  given, weight = unit[f'{name}_in'], unit[f'{name}_weight']
  np.testing.assert_allclose(
    function(given), unit[f'{name}_out'], rtol=1e-4, atol=1e-6
  )
  # Not as one program: near the origin the gradient depends on how each
  # operation rounds.
  gradient = jax.grad(lambda x: jnp.sum(weight * function(x)))(given)
  gradient = np.asarray(gradient)
  for ours, theirs in zip(gradient, unit[f'{name}_grad'], strict=True):
    np.testing.assert_allclose(
      ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max() + 1e-30
    )


def block(**options):
  options = {'window': 'distances', **options}
  layer = lorentz.LorentzBlock(2, 0.0, jnp.float32, dim=7, **options)
  x = np.random.default_rng(0).normal(size=(1, 12, 8)).astype(np.float32)
  init = jax.jit(functools.partial(layer.init, train=False))
  variables = init(jax.random.key(0), x)
  return layer, variables, x


def test_what_the_window_does():
  # The released form draws far keys nearer; with multiplied weights they fade.
  table = np.where(np.abs(np.subtract.outer(*[np.arange(12)] * 2)) < 3, 1, 1e-6)
  seen = {}
  for window in lorentz.WINDOWS:
    layer, variables, x = block(window=window)
    far = lambda x, layer=layer, variables=variables: apply(
      layer, variables, x, table.astype(np.float32), train=False
    )[0, 0]
    seen[window] = np.abs(jax.jit(jax.jacobian(far))(x)[:, 0, 6:]).sum()
  assert seen['weights'] < 1e-3 * seen['distances']


def test_masked_keys_have_no_part():
  layer, variables, x = block()
  mask = np.arange(12)[None, None] < 9
  y = x.copy()
  y[:, 9:] = 5.0
  run = lambda x: apply(layer, variables, x, None, mask, train=False)
  np.testing.assert_allclose(run(x)[:, :9], run(y)[:, :9], rtol=1e-6)


def test_unknown_window():
  with pytest.raises(UserError, match="lorentz_window 'similar' is unknown"):
    block(window='similar')
