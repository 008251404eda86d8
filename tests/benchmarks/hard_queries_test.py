"""Made archives have the numbers of the published recipe."""

import importlib
import pathlib

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / 'benchmarks'
# Numbers of the recipe for 3 videos of 5 tokens of width 4, seed 0.
TOKENS = {
  (1, 0): [0.03689252, -0.7533846, 0.26700798, -0.5997978],
  (1, 2): [0.5893475, -0.58143497, 0.40546298, -0.38756007],
  (1, 4): [0.4447825, -0.6552179, 0.2649108, -0.55016387],
}
QUERIES = {
  'near': ([0.61007977, 0.02431037, -0.00287484, -0.7919618], [1, 2]),
  'gap': ([0.71278346, 0.5893703, 0.18261045, -0.33352035], [1, 2]),
  'hard': ([0.32242763, 0.42907867, -0.5822464, 0.6106727], [2, 0]),
}


@pytest.fixture
def made(monkeypatch):
  monkeypatch.syspath_prepend(FOLDER)
  return importlib.import_module('hard_queries')


def test_numbers_of_the_recipe(made):
  recipe = made.Recipe(3, 5, 4)
  tokens = recipe.made(0, 3)
  for place, numbers in TOKENS.items():
    np.testing.assert_allclose(tokens[place], numbers, rtol=1e-6)
  for kind, (numbers, videos) in QUERIES.items():
    queries, source = recipe.queries(kind, 2)
    np.testing.assert_allclose(queries[0], numbers, rtol=1e-5)
    assert source.tolist() == videos


def test_a_part_is_made_by_itself(made):
  recipe = made.Recipe(100, 10, 8, seed=3)
  whole = recipe.made(0, 100)
  np.testing.assert_array_equal(recipe.made(37, 40), whole[37:77])
  found = dict(made.parts(recipe, 64))
  np.testing.assert_array_equal(np.concatenate([found[0], found[64]]), whole)
  np.testing.assert_allclose(np.linalg.norm(whole, axis=-1), 1, rtol=1e-5)


def test_tokens_of_a_shot_are_alike(made):
  def cosines(shots):
    tokens = made.Recipe(50, 16, 64, shots=shots).made(0, 50)
    near = np.einsum('btd,btd->bt', tokens[:, 1:], tokens[:, :-1])
    return np.median(near)

  assert cosines(4) > 0.94
  # Each token is a shot of its own.
  assert cosines(0) < 0.85


def test_clip_tokens_are_spread_over_the_others(made):
  branches = made.Branches(40, 8)
  assert branches.clip_places.tolist() == list(range(0, 40, 5))
  tokens = np.arange(80.0).reshape(2, 40, 1)
  clips, frames = branches.split(tokens)
  assert clips[1, :, 0].tolist() == list(range(40, 80, 5))
  assert frames.shape == (2, 32, 1)
  np.testing.assert_array_equal(
    np.sort(np.concatenate([clips, frames], axis=1), axis=1), tokens
  )
  with pytest.raises(ValueError, match='5 clip tokens of 5'):
    made.Branches(5, 5)


def test_kinds_differ_in_how_near_they_are(made):
  recipe = made.Recipe(40, 10, 64)
  tokens = recipe.made(0, 40)
  best = {
    kind: np.einsum('nd,vtd->nvt', recipe.queries(kind, 30)[0], tokens)
    for kind in made.KINDS
  }
  means = {kind: found.max(axis=(1, 2)).mean() for kind, found in best.items()}
  assert means['near'] > means['gap'] > means['hard'] > 0.2
