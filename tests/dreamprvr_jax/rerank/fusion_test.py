"""Fusion with the retriever's scores, against golden numbers."""

import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.metrics.retrieval import recall
from dreamprvr_jax.rerank import fusion
from dreamprvr_jax.rerank.candidates import best_candidates
from dreamprvr_jax.rerank.fusion import Fusion, ranks_after, scatter, tune


def lists(n=40, v=30, k=8, seed=0):
  rng = np.random.default_rng(seed)
  scores = rng.uniform(-1, 1, (n, v)).astype(np.float32)
  found = rng.normal(size=(n, k)).astype(np.float32)
  return scores, best_candidates(scores, rng.integers(0, v, n), k), found


def test_only_the_lists_change_and_their_recall_stays():
  scores, candidates, found = lists()
  fused = Fusion(10.0, 0.5)(candidates.scores, found)
  whole = scatter(scores, candidates, fused)
  changed = np.zeros(scores.shape, bool)
  np.put_along_axis(changed, candidates.videos, True, axis=1)
  np.testing.assert_array_equal(whole[~changed], scores[~changed])
  assert (whole[changed] >= scores[changed]).all()
  ranks = ranks_after(candidates, fused)
  np.testing.assert_array_equal(ranks <= 8, candidates.ranks <= 8)
  outside = ~candidates.contain_right
  assert outside.any()
  np.testing.assert_array_equal(ranks[outside], candidates.ranks[outside])
  # Ranks refer to the whole matrix.
  again = best_candidates(whole, candidates.right, 8)
  np.testing.assert_array_equal(ranks, again.ranks)


def test_equal_scores_go_by_index():
  scores = np.asarray([[0.5, 0.5, 0.1]], np.float32)
  candidates = best_candidates(scores, np.asarray([1]), 2)
  fused = np.asarray([[1.0, 1.0]])
  np.testing.assert_array_equal(ranks_after(candidates, fused), [2])


def test_size_of_the_bonus():
  # One candidate leads 31 others by 0.05.
  found = np.zeros((1, 32))
  found[0, 0] = 0.05
  for temperature, lead in ((1.0, 0.0016), (10.0, 0.020), (100.0, 0.82)):
    fused = Fusion(temperature, 1.0)(np.zeros((1, 32)), found)
    assert fused[0, 0] - fused[0, 1] == pytest.approx(lead, rel=0.03)


def test_tuning_finds_what_helps():
  rng = np.random.default_rng(0)
  scores = rng.uniform(0, 0.1, (200, 20)).astype(np.float32)
  right = rng.integers(0, 20, 200)
  candidates = best_candidates(scores, right, 20)
  knows = np.where(candidates.videos == right[:, None], 0.05, 0.0)
  chosen, metrics = tune(candidates, knows)
  assert metrics['R@1'] == 100
  assert metrics['SumR'] == pytest.approx(recall(np.ones(200))['SumR'])
  # The first fusion that reaches this is chosen, which is the gentlest.
  weak = Fusion(1.0, 1.0)(candidates.scores, knows)
  assert recall(ranks_after(candidates, weak))['R@1'] < 100
  assert chosen.temperature > 1


def test_dual_softmax():
  scores = np.asarray([[0.5, 0.4], [0.6, 0.1]])
  found = fusion.corrected(scores, 'dual_softmax')
  share = np.exp(20 * scores) / np.exp(20 * scores).sum(axis=0)
  np.testing.assert_allclose(found, scores * share * 2)
  # The first query no longer prefers the video that the second prefers more.
  assert found[0].argmax() == 1


def test_qb_norm():
  scores = np.asarray([[0.5, 0.45, 0.1], [0.0, 0.0, 0.9]])
  bank = np.asarray([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1]])
  found = fusion.corrected(scores, 'qb_norm', bank)
  # Video 0 is the bank's favourite, a hub, so query 0 turns away from it.
  assert found[0].argmax() == 1
  powers = np.exp(20 * scores[0]) / np.exp(20 * bank).sum(axis=0)
  np.testing.assert_array_equal(np.argsort(found[0]), np.argsort(powers))
  # Video 2 is not the best for any query of the bank: query 1 is unchanged.
  np.testing.assert_array_equal(found[1], scores[1])


def test_corrections_that_cannot_be():
  scores = np.zeros((2, 2))
  assert fusion.corrected(scores, '') is scores
  with pytest.raises(UserError, match="'softmax'; choose from"):
    fusion.corrected(scores, 'softmax')
  with pytest.raises(UserError, match='needs the scores of a bank'):
    fusion.corrected(scores, 'qb_norm')
