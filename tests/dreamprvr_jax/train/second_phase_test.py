"""Held parameters and the rising share, by themselves."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamprvr_jax.train.second_phase import (
  held,
  rising_share,
  share_after,
)

PARAMS = {'new': np.array([1.0]), 'known': np.array([2.0])}


def is_new(path):
  return path[0].key == 'new'


def test_nothing_is_held_without_steps():
  inner = optax.sgd(0.1)
  assert held(inner, is_new, 0) is inner


def test_held_parameters_neither_move_nor_count():
  """Decay does not move them, and their gradients clip nobody else's."""
  inner = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.add_decayed_weights(0.5),
    optax.sgd(1.0),
  )
  optimizer = held(inner, is_new, 2)
  state = optimizer.init(PARAMS)
  gradients = {'new': np.array([0.5]), 'known': np.array([100.0])}
  found = []
  for _ in range(3):
    changes, state = optimizer.update(gradients, state, PARAMS)
    found.append([float(changes[name][0]) for name in ('new', 'known')])
  np.testing.assert_allclose(found[:2], [[-1.0, 0.0]] * 2)
  np.testing.assert_allclose(found[2], [-0.505, -2.0], atol=1e-4)


@pytest.mark.parametrize(
  ('first', 'rise', 'expected'),
  [
    (30, 20, [0, 0, 0, 0.5, 1, 1]),
    (30, 0, [0, 0, 1, 1, 1, 1]),
    (0, 0, [1, 1, 1, 1, 1, 1]),
  ],
)
def test_share(first, rise, expected):
  epochs = np.array([0, 29, 30, 40, 50, 60])
  steps = jnp.asarray(7 * (epochs + 1))
  found = share_after(steps, first=first, rise=rise, steps_per_epoch=7)
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_other_constants_stay():
  constants = rising_share(first=1, rise=0, steps_per_epoch=2)
  former = {'tables': {'x': 1}, 'schedule': {'trace_share': 1.0, 'other': 2}}
  found = constants(former, jnp.asarray(2))
  assert found['tables'] == former['tables']
  assert found['schedule']['other'] == 2
  assert found['schedule']['trace_share'] == 0
