"""Optimal matching against every assignment, and the released numbers."""

import itertools

import jax
import numpy as np
import pytest

from dreamprvr_jax.losses import grouping, matching
from tests.helpers import golden as files

optimal_pairs = jax.jit(matching.optimal_pairs)
matched_cosines = jax.jit(matching.matched_cosines)
captions_by_video = jax.jit(grouping.captions_by_video, static_argnums=(2, 3))


def best_total(cosine):
  captions, clips = cosine.shape
  if captions > clips:
    return best_total(cosine.T)
  return max(
    sum(cosine[row, column] for row, column in enumerate(columns))
    for columns in itertools.permutations(range(clips), captions)
  )


@pytest.mark.parametrize('clips', [5, 2])
def test_best_of_all_assignments(clips):
  cosine = np.random.default_rng(0).uniform(-1, 1, (6, 4, clips))
  cosine = cosine.astype(np.float32)
  counts = np.asarray([4, 3, 2, 4, 2, 3])
  real = np.arange(4) < counts[:, None]
  clip, matched = optimal_pairs(cosine, real)
  for video, count in enumerate(counts):
    chosen = np.flatnonzero(matched[video])
    assert len(chosen) == min(count, clips)
    assert set(chosen) <= set(range(count))
    pairs = np.asarray(clip)[video, chosen]
    assert len(set(pairs)) == len(pairs)
    np.testing.assert_allclose(
      cosine[video, chosen, pairs].sum(),
      best_total(cosine[video, :count]),
      rtol=1e-5,
    )


def test_a_video_with_one_caption_does_not_take_part():
  cosine = np.ones((2, 2, 3), np.float32)
  _, matched = matched_cosines(cosine, np.asarray([[1, 0], [1, 1]], bool))
  np.testing.assert_array_equal(matched, [[False, False], [True, True]])


def test_released_assignment():
  golden = files.load('gmmformer_v2_tiny')
  batch = files.batch_of(golden)
  index, real = jax.device_get(
    captions_by_video(
      batch.caption_video, batch.caption_mask, len(batch.video_mask), 6
    )
  )
  caption, video, clip = np.moveaxis(golden['train/matching'], 0, 1)
  cosine = np.zeros((len(batch.video_mask), 6, 32), np.float32)
  for row, v, cost in zip(
    golden['train/matching_caption'],
    batch.caption_video[golden['train/matching_caption']],
    golden['train/matching_cost'],
    strict=True,
  ):
    cosine[v, list(index[v]).index(row)] = -cost
  real = real & (real.sum(1, keepdims=True) > 1)
  found, matched = jax.device_get(optimal_pairs(cosine, real))
  ours = {
    (int(index[v, q]), v, int(found[v, q]))
    for v, q in zip(*np.nonzero(matched), strict=True)
  }
  assert ours == set(zip(caption, video, clip, strict=True))
