"""Stretches of a video as rows of an index."""

import numpy as np

from dreamprvr_jax.archive.index.encoding import rows_of
from dreamprvr_jax.trained.retriever import Retriever
from tests.helpers.searching import retriever


def features(count):
  return np.random.default_rng(0).normal(size=(count, 16))


def trained(**data):
  config = {'data': {'num_clips': 4, 'max_frames': 6, 'max_words': 2, **data}}
  return retriever(config=config)


def test_a_trained_model_gives_one_row():
  found = rows_of(trained(), features(4), start=3.0, duration=8.0)
  assert found['clip_tokens'].shape == (1, 4, 16)
  assert found['frame_tokens'].shape == (1, 6, 16)
  np.testing.assert_array_equal(found['frame_mask'][0], [1, 1, 1, 1, 0, 0])
  np.testing.assert_allclose(
    found['frame_edges'][0], [0, 0.25, 0.5, 0.75, 1, 1, 1]
  )
  np.testing.assert_array_equal(found['starts'], [3])
  np.testing.assert_array_equal(found['durations'], [8])


def test_long_stretches_are_pooled():
  found = rows_of(trained(), features(50))
  assert found['frame_mask'].all()
  assert np.isnan(found['durations']).all()


def test_without_training():
  found = rows_of(Retriever.free('best_frame', width=16), features(40))
  assert found['frame_mask'].sum() == 40
