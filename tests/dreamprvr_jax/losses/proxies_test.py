"""Losses of proxies against numbers of the released program (RAL)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.losses import proxies
from dreamprvr_jax.losses.variational import gaussian_kl
from tests.helpers import golden as files

GOLDEN = files.load('ral_tiny')
SIDES = ('text', 'video')
EVERY = np.ones(5, bool)
proxy_matching = jax.jit(proxies.proxy_matching)
cross_divergence = jax.jit(proxies.cross_divergence)


def gaussians():
  """Returns {side: (mu, spread)}."""
  return {
    side: tuple(GOLDEN[f'train/{side}_{name}'] for name in ('mean', 'logsigma'))
    for side in SIDES
  }


def proxies_of(given):
  """Returns the proxies of both sides, text first."""
  found = []
  for side in SIDES:
    mu, spread = given[side]
    draws = GOLDEN[f'draws/eps_{side}']
    found.append(mu[:, None] + jnp.exp(spread)[:, None] * draws)
  return found


def matching(given):
  return jnp.mean(proxy_matching(*proxies_of(given), EVERY))


def parts(given):
  """Returns the three divergences of the released program."""
  means = [jnp.mean(drawn, axis=1) for drawn in proxies_of(given)]
  spreads = [given[side][1] for side in SIDES]
  return {
    'kl_text': jnp.mean(gaussian_kl(means[0], spreads[0])),
    'kl_video': jnp.mean(gaussian_kl(means[1], spreads[1])),
    'kl_cross': jnp.mean(
      cross_divergence(means[0], spreads[0], means[1], spreads[1])
    ),
  }


def divergence(given):
  return sum(parts(given).values())


@pytest.mark.parametrize(
  ('name', 'loss'), [('mil', matching), ('vib', divergence)]
)
def test_losses_and_their_gradients(name, loss):
  value, gradient = jax.jit(jax.value_and_grad(loss))(gaussians())
  assert files.distance(value, GOLDEN[f'loss/{name}_raw']) < 1e-5
  for side in SIDES:
    for ours, theirs in zip(gradient[side], ('mean', 'logsigma'), strict=True):
      expected = GOLDEN[f'partial/{name}/{side}_{theirs}']
      assert files.distance(ours, expected) < 1e-5, (side, theirs)


def test_parts_of_the_divergence():
  for name, value in jax.jit(parts)(gaussians()).items():
    assert files.distance(value, GOLDEN[f'loss/{name}_raw']) < 1e-5, name


def test_padded_videos_take_no_part():
  text, video = jax.device_get(jax.jit(proxies_of)(gaussians()))
  expected = proxy_matching(text, video, EVERY)
  padded = [
    np.pad(x, ((0, 3), (0, 0), (0, 0)), constant_values=9.0)
    for x in (text, video)
  ]
  found = np.asarray(proxy_matching(*padded, np.arange(8) < 5))
  np.testing.assert_allclose(found[:5], expected, rtol=1e-6)


def test_the_divergence_of_equal_gaussians_is_zero():
  mu, spread = gaussians()['text']
  found = cross_divergence(mu, spread, mu, spread)
  np.testing.assert_allclose(found, 0, atol=1e-5)
