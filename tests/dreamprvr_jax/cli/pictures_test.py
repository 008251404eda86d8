"""Tests of the values that pictures show."""

import types

import numpy as np

from dreamprvr_jax.cli.pictures import by_time


def split(plan):
  return types.SimpleNamespace(clip_plan=plan)


def test_clips_of_equal_length_stay():
  values = np.arange(6.0).reshape(2, 3)
  np.testing.assert_array_equal(by_time(values, split(None), 0), values)


def test_a_merged_clip_lasts_as_long_as_its_frames():
  plan = np.asarray([[[1, 1, 1], [0, 1, 2]], [[2, 1, 3], [0, 1, 2]]], np.int8)
  values = np.asarray([[5.0, 6.0, 7.0]])
  np.testing.assert_array_equal(
    by_time(values, split(plan), 1), [[5, 5, 6, 7, 7, 7]]
  )
