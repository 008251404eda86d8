"""The timeline of a query, and the rule that finds its moments."""

import numpy as np
import pytest

from dreamprvr_jax.archive.search.moments import (
  LEVEL,
  find_extents,
  find_moments,
)
from dreamprvr_jax.archive.search.timelines import timelines


def bounds(timeline, count=3, least=1):
  found = find_extents(np.asarray(timeline, np.float32), count, least)
  return [(e.start, e.stop, e.peak) for e in found]


def test_the_extent_has_the_greatest_sum_above_the_level():
  # The median is 0 and the peak 1, so the level is 0.45.
  line = [0, 0, 0.4, 0.5, 1.0, 0.8, 0.46, 0, 0, 0, 0]
  assert bounds(line, 1) == [(3, 7, 4)]


def test_the_extent_is_the_best_of_all_around_the_peak():
  rng = np.random.default_rng(0)
  for size in (1, 2, 9, 40):
    line = rng.normal(size=size)
    ((start, stop, peak),) = bounds(line, 1)
    median = np.median(line.astype(np.float32))
    gains = line - (median + LEVEL * (line.max() - median))
    sums = [
      gains[low:high].sum()
      for low in range(peak + 1)
      for high in range(peak + 1, size + 1)
    ]
    assert gains[start:stop].sum() == pytest.approx(max(sums), abs=1e-5)


def test_a_short_dip_does_not_end_a_moment_but_a_long_one_does():
  line = np.zeros(40)
  line[10:14], line[15:19] = 1.0, 0.9
  assert bounds(line) == [(10, 19, 10)]
  line[15:19], line[25:29] = 0, 0.9
  assert bounds(line) == [(10, 14, 10), (25, 29, 25)]


def test_a_short_moment_grows_on_its_better_side():
  line = np.zeros(12)
  line[[4, 5, 6]] = 0.1, 1.0, 0.2
  assert bounds(line, 1) == [(5, 6, 5)]
  assert bounds(line, 1, least=2) == [(5, 7, 5)]
  assert bounds(line, 1, least=3) == [(4, 7, 5)]
  assert bounds([1.0, 0, 0, 0], 1, least=3) == [(0, 3, 0)]
  assert bounds([1.0, 0.5], 1, least=9) == [(0, 2, 0)]


def test_fragments_beside_a_moment_are_none():
  line = np.zeros(60)
  line[20:32], line[33] = 1.0, 0.3
  assert bounds(line) == [(20, 32, 20)]
  line[36] = 0.3
  assert bounds(line) == [(20, 32, 20), (36, 37, 36)]


def test_extents_reach_the_borders():
  assert bounds([1, 0.9, 0, 0, 0, 0], 1) == [(0, 2, 0)]
  assert bounds([0, 0, 0, 0, 0.9, 1], 1) == [(4, 6, 5)]


def test_further_moments_are_other_hills():
  line = np.zeros(20)
  line[[3, 4, 5]] = 0.6, 1.0, 0.3  # the 0.3 is the slope of the first hill
  line[[10, 11]] = 0.5, 0.8
  line[15] = 0.2
  assert bounds(line) == [(3, 5, 4), (10, 12, 11), (15, 16, 15)]
  # Nothing else is above the median.
  assert len(bounds(line, 10)) == 3


def test_a_later_extent_stops_at_an_earlier_one():
  # The level of the second hill is below the valley between them.
  line = [0, 0, 0, 0, 0, 0, 1.0, 0.1, 0.1, 0.1, 0.3, 0, 0]
  assert bounds(line, 2) == [(6, 7, 6), (10, 11, 10)]
  assert bounds(line, 2, least=3) == [(6, 9, 6), (9, 12, 10)]


def test_a_flat_timeline_is_one_moment():
  assert bounds([0.5] * 6) == [(0, 6, 0)]
  assert bounds([0.5]) == [(0, 1, 0)]


def test_the_earlier_of_equal_peaks_is_first():
  assert bounds([0, 1, 0, 0, 1, 0])[0] == (1, 2, 1)


def test_seconds_and_scores():
  line = np.asarray([0, 0.2, 0, 0, 1, 0, 0, 0, 0, 0], np.float32)
  first, second = find_moments(line, 50.0, score=0.7)
  assert (first.start, first.end, first.peak) == (20.0, 25.0, 22.5)
  assert first.span == (0.4, 0.5)
  assert first.score == 0.7
  assert second.start == 5.0
  assert second.score == pytest.approx(0.7 - 0.8)
  unknown = find_moments(line, float('nan'), score=0.7)[0]
  assert np.isnan([unknown.start, unknown.end, unknown.peak]).all()
  assert unknown.span == (0.4, 0.5)


def test_timelines_are_weighted_cosines():
  rng = np.random.default_rng(0)
  queries, clips, frames = (
    rng.normal(size=(n, 6)).astype(np.float32) for n in (4, 2, 7)
  )
  mask = np.arange(7) < 5
  # The first clip is three fifths of the video: frames 0, 1 and 2.
  edges = np.asarray([0, 0.6, 1], np.float32)
  found = timelines(queries, clips, frames, mask, edges, 0.7, 0.3)
  cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
  for i, query in enumerate(queries):
    for j in range(5):
      expected = 0.7 * cosine(query, clips[0 if j < 3 else 1])
      expected += 0.3 * cosine(query, frames[j])
      assert found[i, j] == pytest.approx(expected, abs=1e-6)


def test_one_frame_token_for_the_whole_video():
  rng = np.random.default_rng(0)
  query, clips = rng.normal(size=(1, 6)), rng.normal(size=(4, 6))
  frame, edges = rng.normal(size=(1, 6)), np.linspace(0, 1, 5)
  found = timelines(query, clips, frame, np.ones(1, bool), edges, 0.7, 0.3)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  expected = (
    0.7 * unit(query) @ unit(clips).T + 0.3 * unit(query) @ unit(frame).T
  )
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_video_without_frames_has_its_clips():
  rng = np.random.default_rng(0)
  query, clips = rng.normal(size=(1, 6)), rng.normal(size=(3, 6))
  nothing = np.zeros((4, 6)), np.zeros(4, bool)
  edges = np.linspace(0, 1, 4)
  found = timelines(query, clips, *nothing, edges, 0.7, 0.3)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  np.testing.assert_allclose(found, unit(query) @ unit(clips).T, atol=1e-6)
