"""Tests of masked means and sums."""

import jax
import numpy as np

from dreamprvr_jax.losses import reduction

masked_mean = jax.jit(reduction.masked_mean)
masked_logsumexp = jax.jit(reduction.masked_logsumexp, static_argnames='axis')
same_video = jax.jit(reduction.same_video)


def test_masked_mean():
  values = np.float32([1.0, 2.0, np.nan])
  assert masked_mean(values, np.asarray([True, True, False])) == 1.5
  assert masked_mean(values, np.zeros(3, bool)) == 0


def test_masked_mean_of_nothing_has_gradient_zero():
  gradient = jax.jit(jax.grad(masked_mean))(np.ones(3), np.zeros(3, bool))
  np.testing.assert_array_equal(gradient, 0)


def test_masked_logsumexp():
  values = np.log(np.float32([[1.0, 2.0, 5.0], [3.0, 4.0, 1.0]]))
  mask = np.asarray([[True, True, False], [False, True, False]])
  np.testing.assert_allclose(
    masked_logsumexp(values, mask, axis=1), np.log([3.0, 4.0]), rtol=1e-6
  )
  np.testing.assert_allclose(
    np.asarray(masked_logsumexp(values, mask, axis=0))[:2],
    np.log([1.0, 6.0]),
    atol=1e-6,
  )


def test_masked_logsumexp_is_stable_and_empty_rows_are_finite():
  values = np.float32([[1e4, 1e4], [0.0, 0.0]])
  mask = np.asarray([[True, True], [False, False]])
  total = lambda v: masked_logsumexp(v, mask, axis=1).sum()
  out, gradient = jax.jit(jax.value_and_grad(total))(values)
  assert np.isfinite(out)
  np.testing.assert_allclose(gradient, [[0.5, 0.5], [0.0, 0.0]])
  first = np.asarray(masked_logsumexp(values, mask, axis=1))[0]
  np.testing.assert_allclose(first, 1e4 + np.log(2), rtol=1e-6)


def test_same_video():
  own = same_video(
    np.asarray([0, 1, 1, 0]),
    np.asarray([True, True, True, False]),
    np.asarray([True, True, False]),
  )
  expected = [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]]
  np.testing.assert_array_equal(own, np.asarray(expected, bool))


def test_a_masked_video_has_no_captions():
  own = same_video(
    np.asarray([0, 1]), np.ones(2, bool), np.asarray([True, False])
  )
  np.testing.assert_array_equal(own, [[True, False], [False, False]])
