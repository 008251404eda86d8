"""Tests of merging against outputs of the released program, and by hand."""

import pathlib

import numpy as np
import pytest

from data_pipeline import merging, pooling

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'msc_tiny.npz'
VIDEOS = range(5)


@pytest.fixture(scope='module')
def golden():
  with np.load(GOLDEN) as file:
    return {
      name: file[name]
      for name in file.files
      if name.split('/')[0] in ('raw', 'data', 'batch', 'plan', 'hyper')
    }


def pairs_of(place):
  """Returns the (k, 2) original tokens that were merged."""
  return np.array(
    [np.flatnonzero(place == i) for i in range(place.max() + 1)
     if np.sum(place == i) == 2]
  )  # fmt: skip


def close(ours, theirs):
  np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('video', VIDEOS)
def test_neighbours(golden, video):
  frames = golden[f'raw/frames_{video}']
  np.testing.assert_array_equal(
    pooling.segment_boundaries(len(frames), 128),
    golden['data/sample_bounds'][video],
  )
  tokens = pooling.pool_segments(frames, 128)
  close(tokens, golden['data/sampled_frames'][video])
  sizes, labels = np.ones(128, int), np.arange(128)
  for count in merging.NEIGHBOUR_ROUNDS:
    theirs = lambda name, c=count: golden[f'data/level{c}/{name}'][video]
    tokens, sizes, place = merging.merge_neighbours(tokens, sizes, count)
    labels = place[labels]
    pairs = pairs_of(place)
    np.testing.assert_array_equal(pairs[:, 0] // 2, theirs('merged_pairs'))
    assert (pairs[:, 1] - pairs[:, 0] == 1).all()
    close(tokens, theirs('tokens'))
    np.testing.assert_array_equal(sizes, theirs('sizes'))
    np.testing.assert_array_equal(labels, theirs('labels'))
    np.testing.assert_array_equal(labels, np.repeat(np.arange(count), sizes))
    ends = np.cumsum(sizes)
    np.testing.assert_array_equal(
      np.stack([ends - sizes, ends], axis=1), theirs('spans')
    )


@pytest.mark.parametrize('video', VIDEOS)
def test_further_rounds(golden, video):
  clips = golden['batch/clip_video_features'][video].astype(np.float64)
  threshold = float(golden['hyper/sim_thr'])
  connected = merging.connected_pairs(clips, threshold)
  assert connected / 992 == pytest.approx(golden['plan/omega'][video])
  budget = merging.clip_budget(connected)
  assert budget == golden['plan/S'][video]
  sizes = golden['batch/merge_size'][video].astype(int)
  labels = np.repeat(np.arange(32), sizes)
  tokens = clips
  for count in merging.BUDGETS[1:]:
    level = f'plan/video{video}/level{count}'
    assert (f'{level}/labels' in golden) == (count >= budget)
    if count < budget:
      break
    tokens, sizes, place = merging.merge_alike(tokens, sizes, count)
    labels = place[labels]
    # Pairs are compared in sorted form: the odd token may come first.
    expected = np.sort(golden[f'{level}/pairs'], axis=1)
    assert sorted(pairs_of(place).tolist()) == sorted(expected.tolist())
    np.testing.assert_array_equal(labels, golden[f'{level}/labels'])
    np.testing.assert_array_equal(sizes, golden[f'{level}/sizes'])
  np.testing.assert_array_equal(labels, golden['plan/frame_labels'][video])


@pytest.mark.parametrize('video', VIDEOS)
def test_whole_videos(golden, video):
  clips, frames, plan = merging.merge_video(
    golden[f'raw/frames_{video}'], float(golden['hyper/sim_thr'])
  )
  close(clips, golden['batch/clip_video_features'][video])
  close(frames, golden['batch/frame_video_features'][video])
  sizes, groups = plan.astype(int)
  np.testing.assert_array_equal(sizes, golden['batch/merge_size'][video])
  # As a matrix, the plan makes merged clips the means of their frames.
  weights = (groups == np.arange(32)[:, None]) * sizes
  totals = weights.sum(axis=1)
  np.testing.assert_array_equal(totals, golden['plan/sizes'][video])
  close(
    weights / np.maximum(totals, 1)[:, None], golden['plan/merge_matrix'][video]
  )
  np.testing.assert_array_equal(
    groups[np.repeat(np.arange(32), sizes)], golden['plan/frame_labels'][video]
  )
  assert (clips.dtype, frames.dtype, plan.dtype) == ('f4', 'f4', 'i1')


@pytest.fixture(scope='module')
def waves():
  """Returns clips, sizes and the plain means of a generated video."""
  i, k = np.arange(200)[:, None], np.arange(8)[None]
  x = np.sin(0.05 * i * (k + 1) + k) + 0.5 * np.cos(0.31 * i + 2 * k)
  clips, _, plan = merging.merge_video(x.astype(np.float32), 0.8)
  return clips.astype(np.float64), plan[0].astype(int)


def test_sizes_of_the_waves(waves):
  expected = '4 4 4 4 4 3 7 2 4 5 1 1 6 3 4 4 4 6 4 4 3 7 7 3 2 6 5 4 5 1 1 6'
  assert ' '.join(map(str, waves[1])) == expected


@pytest.mark.parametrize(
  ('threshold', 'share'),
  [(0.6, 0.516129), (0.7, 0.391129), (0.8, 0.066532), (0.9, 0.002016)],
)
def test_connected_share_of_the_waves(waves, threshold, share):
  connected = merging.connected_pairs(waves[0], threshold)
  assert connected / 992 == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(
  ('budget', 'frames'),
  [
    (32, '4 4 4 4 4 3 7 2 4 5 1 1 6 3 4 4 4 6 4 4 3 7 7 3 2 6 5 4 5 1 1 6'),
    (20, '7 4 4 7 3 13 8 2 12 8 4 6 8 3 7 11 4 5 10 2'),
    (12, '10 6 16 8 12 6 6 16 11 11 5 21'),
    (8, '31 16 18 6 6 16 19 16'),
    (5, '47 24 22 16 19'),
  ],
)
def test_groups_of_the_waves(waves, budget, frames):
  clips, sizes = waves
  groups = merging.group_clips(clips, sizes, budget)
  found = np.bincount(groups, weights=sizes).astype(int)
  assert ' '.join(map(str, found)) == frames


@pytest.mark.parametrize(
  ('connected', 'budget'),
  [
    (0, 32), (198, 32), (199, 20), (396, 20), (397, 12), (595, 12), (596, 8),
    (793, 8), (794, 5), (992, 5),
  ],
)  # fmt: skip
def test_budgets(connected, budget):
  assert merging.clip_budget(connected) == budget


def test_chains_connect():
  # Neighbours are similar; the ends are not.
  angles = np.arange(32) * 0.1
  chain = np.stack([np.cos(angles), np.sin(angles)], axis=1)
  assert merging.connected_pairs(chain, 0.99) == 32 * 31
  assert merging.connected_pairs(chain, 0.9951) == 0
  # A cosine at the threshold is not above it; zero vectors are not connected.
  assert merging.connected_pairs(np.eye(3)[[0, 0, 1, 1]], 1.0) == 0
  assert merging.connected_pairs(np.zeros((4, 2)), 0.5) == 0


@pytest.mark.parametrize('value', [0.0, 1.0, 0.1, 1e-3])
def test_ties_go_to_what_stands_first(value):
  """The video is one frame, repeated: all scores of a round are equal."""
  clips, frames, plan = merging.merge_video(np.full((1, 7), value), 0.8)
  assert np.ptp(clips, axis=0).max() <= 1e-7
  assert np.isfinite(frames).all()
  sizes, groups = plan
  # There are 48, 28 and 20 merged pairs, always from the front.
  assert sizes.tolist() == [8] * 12 + [4] * 2 + [2] * 6 + [1] * 12
  # Zero vectors are not similar, so that nothing else is merged.
  assert groups.max() + 1 == (5 if value else 32)


def test_equal_clips_in_pairs_of_even_and_odd():
  tokens, sizes, place = merging.merge_alike(np.ones((8, 3)), np.ones(8), 5)
  assert place.tolist() == [0, 0, 1, 1, 2, 2, 3, 4]
  assert sizes.tolist() == [2, 2, 2, 1, 1]
  np.testing.assert_allclose(tokens, 1)


def test_a_token_is_merged_once_and_by_cosine():
  """The best pair is (2, 1). Token 0 also prefers 1, and has to take 3."""
  tokens = np.array([[1.0, 0.2], [9.0, 0.9], [1.0, 0.1], [0.0, 1.0]])
  _, _, place = merging.merge_alike(tokens, np.ones(4), 3)
  assert place.tolist() == [0, 1, 1, 2]
  merged, sizes, place = merging.merge_alike(tokens, np.array([1, 3, 1, 1]), 2)
  assert place.tolist() == [0, 1, 1, 0]
  assert sizes.tolist() == [2, 4]
  np.testing.assert_allclose(merged, [[0.5, 0.6], [7.0, 0.7]])
