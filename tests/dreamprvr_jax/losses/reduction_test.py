"""Tests of masked means and sums."""

import jax
import jax.numpy as jnp
import numpy as np

from dreamprvr_jax.losses.reduction import (
  masked_logsumexp,
  masked_mean,
  same_video,
)


def test_masked_mean():
  values = jnp.asarray([1.0, 2.0, jnp.nan])
  assert masked_mean(values, jnp.asarray([True, True, False])) == 1.5
  assert masked_mean(values, jnp.zeros(3, bool)) == 0


def test_masked_mean_of_nothing_has_gradient_zero():
  gradient = jax.grad(masked_mean)(jnp.ones(3), jnp.zeros(3, bool))
  np.testing.assert_array_equal(gradient, 0)


def test_masked_logsumexp():
  values = jnp.log(jnp.asarray([[1.0, 2.0, 5.0], [3.0, 4.0, 1.0]]))
  mask = jnp.asarray([[True, True, False], [False, True, False]])
  np.testing.assert_allclose(
    masked_logsumexp(values, mask, axis=1), np.log([3.0, 4.0]), rtol=1e-6
  )
  np.testing.assert_allclose(
    masked_logsumexp(values, mask, axis=0)[:2], np.log([1.0, 6.0]), atol=1e-6
  )


def test_masked_logsumexp_is_stable_and_empty_rows_are_finite():
  values = jnp.asarray([[1e4, 1e4], [0.0, 0.0]])
  mask = jnp.asarray([[True, True], [False, False]])
  out, gradient = jax.value_and_grad(
    lambda v: masked_logsumexp(v, mask, axis=1).sum()
  )(values)
  assert np.isfinite(out)
  np.testing.assert_allclose(gradient, [[0.5, 0.5], [0.0, 0.0]])
  first = masked_logsumexp(values, mask, axis=1)[0]
  np.testing.assert_allclose(first, 1e4 + np.log(2), rtol=1e-6)


def test_same_video():
  own = same_video(
    jnp.asarray([0, 1, 1, 0]),
    jnp.asarray([True, True, True, False]),
    jnp.asarray([True, True, False]),
  )
  expected = [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]]
  np.testing.assert_array_equal(own, np.asarray(expected, bool))


def test_a_masked_video_has_no_captions():
  own = same_video(
    jnp.asarray([0, 1]), jnp.ones(2, bool), jnp.asarray([True, False])
  )
  np.testing.assert_array_equal(own, [[True, False], [False, False]])
