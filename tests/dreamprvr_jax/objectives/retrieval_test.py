"""Tests of the family's total loss."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from dreamprvr_jax.models.outputs import (
  NoisePrediction,
  RetrievalOutput,
  ScorePair,
  VideoGaussian,
)
from dreamprvr_jax.types import Batch
from tests.helpers import models

RNG = np.random.default_rng(0)
RAW = np.asarray([[1.0, 0.0], [0.5, 2.0], [-1.0, 3.0]], np.float32)
COSINE = np.asarray([[0.5, 0.4], [0.1, 0.6], [0.45, 0.3]], np.float32)
HARDEST = (np.ones(3, int), np.zeros(2, int))
RANKS = {'clip': HARDEST, 'frame': HARDEST}
FACTORS = {
  'clip_nce': 2.0,
  'frame_nce': 3.0,
  'diversity': 5.0,
  'structure': 7.0,
  'variational': 11.0,
  'diffusion': 13.0,
}
BATCH = Batch(
  clip_features=None,
  frame_features=None,
  frame_mask=None,
  video_mask=np.ones(2, bool),
  word_features=None,
  word_mask=None,
  caption_mask=np.ones(3, bool),
  caption_video=np.asarray([0, 1, 1]),
)
OUTPUT = RetrievalOutput(
  videos=None,
  clip_scores=ScorePair(COSINE, RAW),
  frame_scores=ScorePair(COSINE, 2 * RAW),
  # Norms are not 1: the objective normalises. Captions 1 and 2 are siblings.
  text_queries=np.asarray([[0.0, 2.0], [3.0, 0.0], [0.0, -5.0]], np.float32),
  sampler=VideoGaussian(
    mu=np.asarray([[1.0, 0.0], [0.0, 0.0]], np.float32),
    logvar=np.zeros((2, 2), np.float32),
  ),
  estimator=NoisePrediction(
    mean_queries=None,
    noise=np.zeros((2, 1, 2), np.float32),
    predicted=np.full((3, 2, 1, 2), 2.0, np.float32),
  ),
)


@functools.partial(jax.jit, static_argnums=0)
def call(objective, output=OUTPUT):
  return objective(output, BATCH, RANKS)


def test_terms_by_hand():
  _, terms = call(models.objective(**FACTORS, structure_temperature=0.5))
  expected = {
    'clip_nce': 0.4729620222522,
    'clip_triplet': 0.30,
    'frame_triplet': 0.30,
    # Two ordered pairs at cosine 0, over three captions.
    'diversity': 2 / 3 * np.log1p(np.exp(32 * 0.2)),
    # Caption 1 sees 0, 0; caption 2 sees 0 and -1 / .5.
    'structure': (np.log(2) + np.log(1 + np.exp(-2))) / 2,
    'variational': 0.25,
    'diffusion': 4.0,
  }
  assert set(terms) == {*expected, 'frame_nce'}
  for name, value in expected.items():
    np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)
  assert terms['frame_nce'] != terms['clip_nce']


def test_total_is_the_weighted_sum():
  total, terms = call(models.objective(**FACTORS))
  expected = sum(
    FACTORS.get(name, 1.0) * float(term) for name, term in terms.items()
  )
  np.testing.assert_allclose(total, expected, rtol=1e-5)


@pytest.mark.parametrize('name', list(FACTORS))
def test_factor_0_drops_the_term(name):
  whole, terms = call(models.objective(**FACTORS))
  total, left = call(models.objective(**{**FACTORS, name: 0.0}))
  assert set(terms) - set(left) == {name}
  np.testing.assert_allclose(
    total, whole - FACTORS[name] * terms[name], rtol=1e-4
  )


def test_what_an_ablated_system_lacks_has_no_term():
  output = dataclasses.replace(OUTPUT, sampler=None, estimator=None)
  total, terms = call(models.objective(**FACTORS), output)
  assert not {'variational', 'diffusion'} & set(terms)
  assert np.isfinite(total)


def test_a_padded_video_does_not_count():
  batch = BATCH.replace(
    video_mask=np.asarray([False, True]),
    caption_mask=np.asarray([False, True, True]),
  )
  objective = models.objective(**FACTORS)
  losses = jax.jit(lambda output: objective(output, batch, RANKS))
  _, terms = losses(OUTPUT)
  assert terms['variational'] == 0
  assert terms['clip_triplet'] == 0
  assert terms['clip_nce'] == pytest.approx(0, abs=1e-6)


def test_draws_of_the_branches_are_independent():
  objective = models.objective(hard_pool=5)
  owner = np.repeat(np.arange(20), 3)
  batch = BATCH.replace(
    video_mask=np.ones(20, bool),
    caption_mask=np.ones(60, bool),
    caption_video=owner,
  )
  drawn = jax.jit(lambda hard: objective.draw(jax.random.key(0), batch, hard))
  draw = lambda hard: jax.device_get(drawn(hard))
  soft = draw(False)
  assert set(soft) == {'clip', 'frame', 'guided', 'hard'}
  assert not np.array_equal(soft['clip'][0], soft['frame'][0])
  assert not np.array_equal(soft['clip'][1], soft['frame'][1])
  assert soft['clip'][0].max() > 5
  hard = draw(True)
  assert hard['clip'][0].max() == 5
  np.testing.assert_array_equal(hard['frame'][1], 0)
