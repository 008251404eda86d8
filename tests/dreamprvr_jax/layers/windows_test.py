"""Means over all windows."""

import numpy as np

from dreamprvr_jax.layers.windows import window_means, window_weights


def test_order_by_the_equations():
  tokens = np.arange(32, dtype=np.float32)[None, :, None]
  means = np.asarray(window_means(tokens))[0, :, 0]
  assert means.shape == (528,)
  np.testing.assert_allclose(means[:32], np.arange(32), rtol=1e-6)
  np.testing.assert_allclose(means[32:35], [0.5, 1.5, 2.5], rtol=1e-6)
  np.testing.assert_allclose(means[[63, 527]], [1, 15.5], rtol=1e-6)


def test_every_window_once():
  weights = window_weights(5)
  spans = {tuple(np.flatnonzero(row)) for row in weights}
  assert len(spans) == len(weights) == 15
  np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
