"""Tests of pooling against outputs of the published programs."""

import fractions
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import pooling


def test_boundaries_of_48_frames():
  expected = (
    '0 2 3 4 6 8 9 10 12 14 15 16 18 20 21 22 24 26 27 28 30 32 33 34 36 38 39 '
    '40 42 44 45 46 47'
  )
  got = pooling.segment_boundaries(48, 32)
  assert ' '.join(map(str, got)) == expected
  assert got.dtype == np.int64


def test_boundaries_of_80_and_200_frames():
  got = pooling.segment_boundaries(80, 32)
  assert list(got[:12]) == [0, 2, 5, 8, 10, 12, 15, 18, 20, 22, 25, 28]
  assert list(got[-4:]) == [72, 75, 78, 79]
  got = pooling.segment_boundaries(200, 128)
  assert list(got[:12]) == [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 16, 17]


def _ramp(num_frames):
  return np.arange(num_frames, dtype=np.float32)[:, None]


def test_pooled_values():
  clips = pooling.pool_segments(_ramp(48), 32)[:, 0]
  assert list(clips[:8]) == [0.5, 2, 3, 4.5, 6.5, 8, 9, 10.5]
  assert list(clips[-4:]) == [42.5, 44, 45, 46]
  frames = pooling.pool_segments(_ramp(200), 128)[:, 0]
  assert list(frames[:8]) == [0.5, 2, 3.5, 5, 6.5, 8, 9.5, 11]
  assert list(frames[-4:]) == [194, 195.5, 197, 198]


def test_short_videos_repeat_rows():
  clips = pooling.pool_segments(_ramp(5), 32)[:, 0]
  values, counts = np.unique(clips, return_counts=True)
  assert list(values) == [0, 1, 2, 3, 4]
  assert list(counts) == [4, 6, 7, 6, 9]
  np.testing.assert_array_equal(pooling.pool_segments(_ramp(1), 32), 0)


@given(st.integers(1, 3000), st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_boundaries_round_half_to_even(num_frames, num_segments):
  # `round` of an exact fraction rounds half to even.
  expected = [
    min(round(fractions.Fraction(i * num_frames, num_segments)), num_frames - 1)
    for i in range(num_segments + 1)
  ]
  got = pooling.segment_boundaries(num_frames, num_segments)
  assert list(got) == expected


@given(st.integers(1, 400), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_pooling_is_the_mean_of_each_segment(num_frames, seed):
  frames = np.random.default_rng(seed).standard_normal((num_frames, 3))
  edges = pooling.segment_boundaries(num_frames, 32)
  expected = [
    frames[a:b].mean(axis=0) if a < b else frames[a]
    for a, b in itertools.pairwise(edges)
  ]
  got = pooling.pool_segments(frames, 32)
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)


def test_normalisation_adds_epsilon_to_the_norm():
  got = pooling.normalize_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
  np.testing.assert_array_equal(got, [[3 / 5.00001, 4 / 5.00001], [0, 0]])


def test_clips_average_before_they_are_normalised():
  frames = np.array([[10.0, 0.0], [0.0, 1.0]], np.float32)
  (clip,) = pooling.clip_features(frames[[0, 1, 0]], 1)
  # The last frame is beyond the capped boundary.
  norm = np.sqrt(5.0**2 + 0.5**2) + 1e-5
  np.testing.assert_array_equal(
    clip, np.array([5 / norm, 0.5 / norm]).astype(np.float32)
  )


def test_float64_is_kept_up_to_the_last_cast():
  frames = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
  once = pooling.frame_features(frames, 128)
  assert once.dtype == np.float32
  assert once.shape == (128, 8)
  np.testing.assert_array_equal(
    once, pooling.frame_features(frames.astype(np.float64), 128)
  )


@pytest.mark.parametrize('dtype', ['float16', 'float32', 'float64'])
def test_words_are_normalised_in_stored_precision_and_cut(dtype):
  words = np.random.default_rng(0).standard_normal((40, 7)).astype(dtype)
  got = pooling.word_features(words, 30)
  wide = words.astype(np.float32 if dtype == 'float16' else dtype)
  norms = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
  expected = (wide / (norms + wide.dtype.type(1e-5)))[:30].astype(np.float32)
  assert got.dtype == np.float32
  np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize('sizes', [(0, 32), (5, 0)])
def test_nothing_to_pool_is_an_error(sizes):
  with pytest.raises(ValueError, match='at least one'):
    pooling.segment_boundaries(*sizes)
