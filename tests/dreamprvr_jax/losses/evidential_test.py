"""Evidential losses against values of the released functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.losses import evidential
from tests.helpers import golden as files

evidence = jax.jit(evidential.evidence)
expected_error = jax.jit(evidential.expected_error)
combine = jax.jit(evidential.combine)
query_sets = jax.jit(evidential.query_sets, static_argnames='margin')
FRAME = np.asarray([[0.9, 0.1, -0.3]], np.float32)
CLIP = np.asarray([[0.2, 0.5, 0.0]], np.float32)
ALL = np.ones((1, 3), bool)
ONE_HOT = np.asarray([[1.0, 0.0, 0.0]], np.float32)


def test_evidence_and_its_error():
  frame, clip = (evidence(s, 0.2) for s in (FRAME, CLIP))
  np.testing.assert_allclose(
    frame, [[35.927008947, 1.645986620, 0.233035830]], rtol=1e-5
  )
  combined = combine(frame, clip, np.float32(3))
  np.testing.assert_allclose(
    combined, [[70.738677700, 17.257009380, 1.310714439]], rtol=1e-5
  )
  for found, expected in (
    (frame, 0.018363198656),
    (clip, 1.088197380280),
    (combined, 0.093213187232),
  ):
    error = expected_error(found, ONE_HOT, ALL)
    np.testing.assert_allclose(error, [expected], rtol=1e-5)


def test_padded_alternatives_do_not_count():
  pad = lambda x, value: np.pad(x, ((0, 0), (0, 2)), constant_values=value)
  whole = expected_error(evidence(FRAME, 0.2), ONE_HOT, ALL)
  padded = expected_error(
    evidence(pad(FRAME, 0.7), 0.2), pad(ONE_HOT, 0.0), pad(ALL, 0)
  )
  np.testing.assert_allclose(padded, whole, rtol=1e-6)


@pytest.mark.parametrize('temperature', ['0.04', '0.05', '0.08', '0.2'])
def test_released_numbers(temperature):
  unit = files.part(files.load('holmes_tiny'), 'unit/edl')
  scores = unit['scores_a'], unit['scores_b']
  labels = np.eye(scores[0].shape[1], dtype=np.float32)[unit['labels']]
  real = np.ones((1, labels.shape[1]), bool)

  def losses(a, b):
    found = [evidential.evidence(s, float(temperature)) for s in (a, b)]
    both = evidential.combine(*found, np.float32(labels.shape[1]))
    return jnp.stack(
      [
        jnp.mean(evidential.expected_error(e, labels, real))
        for e in (*found, both)
      ]
    )

  values = files.part(unit, f'tau{temperature}')

  def total(a, b):
    found = losses(a, b)
    return found.sum(), found

  gradients, found = jax.jit(jax.grad(total, (0, 1), has_aux=True))(*scores)
  np.testing.assert_allclose(found, values['losses'], rtol=1e-4, atol=1e-7)
  for ours, name in zip(gradients, ('grad_a', 'grad_b'), strict=True):
    assert files.distance(ours, values[name]) < 1e-4


@pytest.mark.parametrize('case', ['0', '1', '2'])
def test_identification(case):
  golden = files.load('holmes_tiny')
  unit = files.part(golden, f'unit/identify/{case}')
  captions, videos = unit['scores'].shape
  sets = query_sets(
    unit['scores'],
    evidence(unit['scores'], 0.2),
    caption_video=golden['unit/identify/labels'].astype(np.int32),
    caption_mask=np.ones(captions, bool),
    video_mask=np.ones(videos, bool),
    margin=0.3,
  )
  np.testing.assert_array_equal(sets, unit['sets'])


def test_sets_and_labels_of_a_batch():
  golden = files.load('holmes_tiny')
  train = files.part(golden, 'train')
  batch = files.batch_of(golden)
  where = {
    'caption_video': batch.caption_video,
    'caption_mask': batch.caption_mask,
    'video_mask': batch.video_mask,
  }
  scores = train['frame_scores'], train['clip_scores']
  found = tuple(evidence(s, 0.08) for s in scores)
  for branch, s, e in zip(('frame', 'clip'), scores, found, strict=True):
    sets = query_sets(s, e, margin=0.3, **where)
    np.testing.assert_array_equal(sets, train[f'{branch}_sets'])
  labels, polysemous = jax.jit(
    lambda *args: evidential.calibrated_labels(
      args[:2], args[2:], margin=0.3, smoothing=0.2, **where
    )
  )(*scores, *found)
  np.testing.assert_array_equal(polysemous, train['ambiguous'])
  np.testing.assert_allclose(labels, train['final_labels'], atol=1e-6)
