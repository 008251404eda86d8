"""The sentence's best frame as an addition to a model's score."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.models.template import variable_shapes
from dreamprvr_jax.train.step import init_variables
from dreamprvr_jax.types import Batch
from tests.helpers import models
from tests.helpers.models import apply
from tests.helpers.retrieval import features, task_of

WIDTH, CLIPS, FRAMES, FEATURES = 8, 3, 5, 6
VIDEOS, QUERIES, WEIGHT = 9, 7, 0.5


def build(**options):
  return models.make(
    'dreamprvr',
    register_source='adaptive_pooling',
    width=WIDTH,
    num_heads=2,
    num_clips=CLIPS,
    max_frames=FRAMES,
    max_words=1,
    block_widths=(0.0, 1.0),
    num_registers=2,
    diffusion_steps=2,
    diffusion_layers=1,
    **options,
  )


PLAIN, FUSED = build(), build(sentence_weight=WEIGHT)
TRAINED = build(sentence_weight=WEIGHT, sentence_training=True)


@functools.cache
def data():
  # The one word of a query is the sentence.
  return features(VIDEOS, QUERIES, width=FEATURES, clips=CLIPS, frames=FRAMES)


def batch(**changes):
  given = data()
  return Batch(
    clip_features=given['clips'],
    frame_features=given['frames'],
    frame_mask=given['mask'],
    video_mask=np.ones(VIDEOS, bool),
    word_features=given['words'],
    word_mask=given['word_mask'],
    caption_mask=np.ones(QUERIES, bool),
    caption_video=given['right'],
  ).replace(**changes)


@functools.cache
def variables():
  return models.drawn(PLAIN, batch())


def best_frames():
  """Returns the largest cosines of sentences with real frames."""
  given = data()
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  found = np.zeros((QUERIES, VIDEOS))
  for video in range(VIDEOS):
    frames = given['frames'][video][given['mask'][video]]
    found[:, video] = (unit(given['words'][:, 0]) @ unit(frames).T).max(axis=1)
  return found


def ranked(model):
  evaluator = Evaluator(model, meshes.make_mesh(1), task_of(data()))
  return evaluator.run(variables(), keep_scores=True, show=False)[1].scores


def test_it_has_no_parameters():
  assert variable_shapes(FUSED, batch()) == variable_shapes(PLAIN, batch())


@pytest.mark.long
def test_it_changes_no_initial_value():
  plain, fused = (init_variables(x, batch(), 0) for x in (PLAIN, FUSED))
  jax.tree.map(np.testing.assert_array_equal, plain, fused)


@pytest.mark.parametrize('model', [FUSED, TRAINED])
def test_the_score_is_the_sum(model):
  # Padded frames are zero, and would have a cosine of 0: above all others
  # where these are negative.
  assert (best_frames() < 0).any()
  np.testing.assert_allclose(
    ranked(model), ranked(PLAIN) + WEIGHT * best_frames(), atol=1e-5
  )


def test_it_is_what_the_retriever_without_training_has():
  free = models.MODELS['best_frame'](
    num_clips=CLIPS, max_frames=FRAMES, max_words=1, dtype=jnp.float32
  )
  np.testing.assert_allclose(
    (ranked(FUSED) - ranked(PLAIN)) / WEIGHT, ranked(free), atol=1e-5
  )


def test_losses_see_it_only_if_asked():
  plain, same, fused = (
    apply(model, variables(), batch()) for model in (PLAIN, FUSED, TRAINED)
  )
  added = WEIGHT * best_frames()
  for name in ('clip_scores', 'frame_scores'):
    before, alone, after = (
      getattr(output, name) for output in (plain, same, fused)
    )
    np.testing.assert_allclose(after.cosine, before.cosine + added, atol=1e-5)
    np.testing.assert_array_equal(after.raw, before.raw)
    np.testing.assert_array_equal(alone.cosine, before.cosine)
  np.testing.assert_array_equal(fused.text_queries, plain.text_queries)


def test_padding_takes_no_part():
  given = data()
  other = np.where(given['mask'][..., None], given['frames'], 7.0)
  found = [
    apply(TRAINED, variables(), batch(frame_features=frames))
    for frames in (given['frames'], other)
  ]
  unlike = [
    apply(PLAIN, variables(), batch(frame_features=frames))
    for frames in (given['frames'], other)
  ]
  added = [
    np.subtract(one.frame_scores.cosine, two.frame_scores.cosine)
    for one, two in zip(found, unlike, strict=True)
  ]
  np.testing.assert_allclose(*added, atol=1e-5)


def test_what_the_contract_says():
  assert PLAIN.token_score == 'cosine'
  assert not PLAIN.reads_features
  assert FUSED.token_score == 'other'
  assert FUSED.reads_features
  queries = np.zeros((2, WIDTH + FEATURES))
  assert FUSED.pooled(queries).shape == (2, WIDTH)


def test_other_widths_are_refused():
  words = np.ones((QUERIES, 1, FEATURES + 1), np.float32)
  with pytest.raises(UserError, match='word features have 7 numbers and frame'):
    init_variables(FUSED, batch(word_features=words), 0)
