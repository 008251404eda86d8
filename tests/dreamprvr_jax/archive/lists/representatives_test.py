"""Representatives of alike tokens."""

import numpy as np

from dreamprvr_jax.archive.lists.representatives import representatives
from dreamprvr_jax.archive.search.timelines import unit


def rows_of_shots(rng, rows, shots, each, *, noise):
  """Returns unit tokens (rows, shots * each, 24), alike within a shot."""
  centres = rng.standard_normal((rows, shots, 1, 24))
  tokens = centres + noise * rng.standard_normal((rows, shots, each, 24))
  flat = tokens.reshape(rows, shots * each, 24).astype(np.float32)
  return unit(flat)


def test_a_shot_is_one_vector():
  tokens = rows_of_shots(np.random.default_rng(0), 3, 4, 5, noise=0.1)
  found, rows = representatives(tokens, np.ones((3, 20), bool), unit=True)
  np.testing.assert_array_equal(rows, np.repeat(np.arange(3), 4))
  expected = tokens.reshape(3, 4, 5, 24).mean(axis=2).reshape(12, 24)
  np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_tokens_that_differ_stay_alone():
  rng = np.random.default_rng(1)
  tokens = rows_of_shots(rng, 2, 9, 1, noise=0)
  found, rows = representatives(tokens, np.ones((2, 9), bool), unit=True)
  np.testing.assert_allclose(found, tokens.reshape(18, 24), rtol=1e-6)
  np.testing.assert_array_equal(rows, np.repeat([0, 1], 9))


def test_padding_is_no_token():
  tokens = rows_of_shots(np.random.default_rng(2), 3, 2, 3, noise=0.05)
  real = np.ones((3, 6), bool)
  real[0, 4:] = real[1] = False
  found, rows = representatives(tokens, real, unit=True)
  np.testing.assert_array_equal(rows, [0, 0, 2, 2])
  np.testing.assert_allclose(found[1], tokens[0, 3], rtol=1e-6)
  none, rows = representatives(tokens, np.zeros((3, 6), bool), unit=True)
  assert none.shape == (0, 24)
  assert len(rows) == 0


def test_lengths_count_where_they_are_not_one():
  token = np.random.default_rng(3).standard_normal((1, 1, 24)).astype('f4')
  tokens = np.concatenate([token, token, 3 * token], axis=1)
  real = np.ones((1, 3), bool)
  found, _ = representatives(tokens, real, unit=False)
  np.testing.assert_allclose(
    found, np.concatenate([token, 3 * token], axis=1)[0], rtol=1e-6
  )
  found, _ = representatives(tokens, real, unit=True)
  np.testing.assert_allclose(found, unit(token[0]), rtol=1e-6)


def test_a_token_of_length_0_is_no_division_by_it():
  found, rows = representatives(
    np.zeros((2, 3, 4), np.float32), np.ones((2, 3), bool), unit=True
  )
  assert np.isfinite(found).all()
  assert list(rows) == [0, 1]
