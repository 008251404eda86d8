"""Runs of alike tokens."""

import numpy as np
import pytest

from dreamprvr_jax.archive.database.representatives import (
  ALIKE,
  representatives,
)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def one_by_one(tokens, mask, unit_length):
  """Returns the same, token by token."""
  found, owners = [], []
  for row, (some, real) in enumerate(zip(tokens, mask, strict=True)):
    runs = []
    for token in some[real]:
      mean = sum(map(unit, runs[-1])) if runs else None
      if runs and unit(token) @ unit(mean) >= ALIKE:
        runs[-1].append(token)
      else:
        runs.append([token])
    found += [
      np.mean([unit(x) if unit_length else x for x in run], axis=0)
      for run in runs
    ]
    owners += [row] * len(runs)
  return np.array(found), np.array(owners)


@pytest.mark.parametrize('unit_length', [True, False])
def test_runs_are_those_of_a_loop(unit_length):
  draw = np.random.default_rng(0)
  shots = draw.standard_normal((6, 4, 16))
  tokens = shots[:, np.sort(draw.integers(4, size=20))]
  tokens = tokens + 0.5 * draw.standard_normal(tokens.shape)
  tokens = tokens.astype(np.float32)
  # Padding may be anywhere, and a row without tokens has no run.
  mask = draw.random(tokens.shape[:2]) < 0.8
  mask[2] = False
  found, rows = representatives(tokens, mask, unit=unit_length)
  expected, owners = one_by_one(tokens, mask, unit_length)
  np.testing.assert_array_equal(rows, owners)
  assert len(np.unique(rows)) == 5 < len(rows) < mask.sum()
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_rows_without_tokens_have_no_runs():
  tokens = np.ones((2, 3, 4), np.float32)
  found, rows = representatives(tokens, np.zeros((2, 3), bool))
  assert found.shape == (0, 4)
  assert rows.shape == (0,)
  # A token of length 0 is no division by it.
  found, rows = representatives(0 * tokens, np.ones((2, 3), bool))
  assert np.isfinite(found).all()
  assert list(rows) == [0, 1]
