"""Stretches of a video as rows of an index."""

import numpy as np
import pytest

from dreamprvr_jax.training_free import rows
from dreamprvr_jax.training_free.moments import moments


def frames(count, width=8, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(count, width)).astype(np.float32)


def spans(found):
  """Returns the seconds of all real tokens, row after row."""
  rows = []
  for i, mask in enumerate(found['frame_mask']):
    edges = found['frame_edges'][i, : mask.sum() + 1].astype(np.float64)
    seconds = found['starts'][i] + edges * found['durations'][i]
    rows.append(np.stack([seconds[:-1], seconds[1:]], axis=1))
  return np.concatenate(rows)


def test_moments_of_a_stretch():
  features = frames(60)
  found = rows.rows_of('tf_prvr', features, start=40.0, duration=30.0)
  expected, edges = moments(features)
  assert found['frame_mask'].sum() == len(expected)
  np.testing.assert_array_equal(
    found['frame_tokens'][found['frame_mask']], expected
  )
  seconds = 40 + edges / 60 * 30
  np.testing.assert_allclose(
    spans(found), np.stack([seconds[:-1], seconds[1:]], axis=1), atol=1e-5
  )
  assert found['starts'][0] == 40


def test_many_frames_become_several_rows():
  features = frames(100)
  found = rows.rows_of('best_frame', features, start=5.0, duration=50.0)
  np.testing.assert_array_equal(found['frame_mask'].sum(axis=1), [25] * 4)
  np.testing.assert_allclose(found['starts'], [5, 17.5, 30, 42.5])
  np.testing.assert_allclose(found['durations'], 12.5)
  unit = features / np.linalg.norm(features, axis=1, keepdims=True)
  np.testing.assert_allclose(
    found['frame_tokens'][found['frame_mask']], unit, atol=1e-6
  )
  clip = unit[:25].mean(axis=0)
  np.testing.assert_allclose(
    found['clip_tokens'][0, 0], clip / np.linalg.norm(clip), atol=1e-6
  )


def test_padding_repeats_the_last_token():
  found = rows.rows_of('best_frame', frames(3), duration=3.0)
  tokens = found['frame_tokens'][0]
  np.testing.assert_array_equal(tokens[3:], np.tile(tokens[2], (29, 1)))
  np.testing.assert_allclose(
    found['frame_edges'][0, :5], [0, 1 / 3, 2 / 3, 1, 1], atol=1e-7
  )


def test_unknown_length():
  found = rows.rows_of('best_frame', frames(40), start=2.0)
  assert np.isnan(found['durations']).all()
  np.testing.assert_allclose(found['starts'], [2, 2.5])
  found = rows.rows_of('best_frame', frames(8), start=2.0)
  assert np.isnan(found['durations']).all()
  assert found['starts'][0] == 2


def test_borders_of_uneven_frames():
  found = rows.borders(3, np.array([10.0, 12, 16]), 10.0, 8.0)
  np.testing.assert_allclose(found, [0, 1 / 8, 4 / 8, 1])


def test_unknown_retriever():
  with pytest.raises(ValueError, match='gmmformer'):
    rows.tokens_of('gmmformer', frames(3))
