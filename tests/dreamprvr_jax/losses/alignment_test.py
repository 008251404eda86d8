"""Alignment of branches against numbers of the released code (MSC)."""

import jax
import numpy as np
import pytest

from dreamprvr_jax.losses import alignment
from tests.helpers import golden as files


@pytest.fixture(scope='module')
def golden():
  return files.load('msc_tiny')


def plan(golden):
  batch = files.batch_of(golden)
  return {'sizes': batch.clip_sizes, 'groups': batch.clip_groups}


def test_merged_clips_and_frames(golden):
  clips = golden['train/projected_clips']
  merge = jax.jit(lambda clips: alignment.merged_clips(clips, **plan(golden)))
  merged = merge(clips)
  np.testing.assert_allclose(merged, golden['train/merged_clips'], atol=1e-6)
  groups = alignment.frame_groups(**plan(golden), num_frames=128)
  np.testing.assert_array_equal(groups, golden['plan/frame_labels'])


def test_loss_and_where_its_gradients_stop(golden):
  clips, frames = (
    golden[f'train/projected_{name}'] for name in ('clips', 'frames')
  )
  total = jax.jit(lambda c, f: alignment.cross_branch(c, f, **plan(golden)))
  expected = (
    golden['train/cbva_frame_to_clip'] + golden['train/cbva_clip_to_frame']
  )
  np.testing.assert_allclose(total(clips, frames), expected, rtol=1e-5)
  mean = lambda c, f: total(c, f).mean()
  gradients = jax.jit(jax.grad(mean, argnums=(0, 1)))(clips, frames)
  for ours, name in zip(gradients, ('clips', 'frames'), strict=True):
    assert files.distance(ours, golden[f'partial/cbva_{name}']) < 1e-4
