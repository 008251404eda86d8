"""Mean, spread and difference over seeds."""

import math

import pytest

from dreamprvr_jax.metrics import seeds


def test_spread_is_the_samples():
  found = seeds.spread([1.0, 2.0, 3.0])
  assert (found['mean'], found['std']) == (2.0, 1.0)
  assert seeds.spread([4.0]) == {'mean': 4.0, 'std': None, 'values': [4.0]}


def test_difference():
  change, error = seeds.difference([1.0, 2.0, 3.0], [0.0, 4.0])
  assert change == 0
  assert error == pytest.approx(math.sqrt(1 / 3 + 8 / 2))
  assert seeds.difference([2.0], [1.0, 1.0]) == (1.0, None)


def test_a_side_that_depends_on_no_seed_has_no_error():
  change, error = seeds.difference([2.0], [0.0, 4.0], seedless=(True, False))
  assert (change, error) == (0.0, pytest.approx(2.0))
  assert seeds.difference([2.0], [1.0], seedless=(True, True)) == (1.0, 0.0)
  assert seeds.difference([2.0], [1.0], seedless=(True, False)) == (1.0, None)
