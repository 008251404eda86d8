"""Inverted lists of FAISS."""

import sys

import numpy as np
import pytest

from dreamprvr_jax.archive.index.files import DamagedError
from dreamprvr_jax.archive.lists.branch_lists import (
  BranchLists,
  centres_for,
)
from dreamprvr_jax.errors import UserError


def vectors(count, width=32):
  rng = np.random.default_rng(0)
  centres = rng.standard_normal((40, width))
  found = centres[rng.integers(40, size=count)]
  found = found + 0.7 * rng.standard_normal((count, width))
  return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype('f4')


def best(queries, found, k):
  return np.argsort(-queries @ found.T, axis=1, kind='stable')[:, :k]


def test_few_are_compared_one_by_one():
  found = vectors(300)
  lists = BranchLists.trained(found, centres_for(len(found)))
  lists.add(found)
  assert (lists.centres, len(lists)) == (0, 300)
  scores, places = lists.search(found[:5], 10, probes=1)
  np.testing.assert_array_equal(places, best(found[:5], found, 10))
  np.testing.assert_allclose(scores[:, 0], 1, rtol=1e-6)
  assert lists.fit(found) == 1


@pytest.mark.parametrize('width', [32, 15])
def test_many_are_in_lists(width, tmp_path):
  found = vectors(6000, width)
  lists = BranchLists.trained(found[:4000], centres_for(len(found)))
  assert lists.centres == 128
  for start in range(0, 6000, 1000):
    lists.add(found[start : start + 1000])
  queries = vectors(6000, width)[::200] + 0.1
  right = best(queries, found, 10)

  def recall(probes):
    _, places = lists.search(queries, 100, probes)
    return np.mean(
      [np.isin(a, b).mean() for a, b in zip(right, places, strict=1)]
    )

  assert recall(1) < recall(128)
  assert recall(128) > 0.97
  assert 0.5 < lists.fit(found) < 1
  lists.write(tmp_path / 'x.faiss')
  again = BranchLists.read(tmp_path / 'x.faiss', width)
  assert again.centres == 128
  for one, other in zip(
    again.search(queries, 20, 8), lists.search(queries, 20, 8), strict=True
  ):
    np.testing.assert_array_equal(one, other)


def test_a_file_that_faiss_cannot_read(tmp_path):
  path = tmp_path / 'x.faiss'
  path.write_bytes(b'no index')
  with pytest.raises(DamagedError, match='cannot be read by FAISS'):
    BranchLists.read(path, 8)
  with pytest.raises(DamagedError, match='cannot be read by FAISS'):
    BranchLists.read(tmp_path / 'gone.faiss', 8)
  BranchLists.trained(np.zeros((1, 8), np.float32), 0).write(path)
  with pytest.raises(DamagedError, match='width 8 where 9 was expected'):
    BranchLists.read(path, 9)


def test_lists_without_vectors():
  lists = BranchLists.trained(np.zeros((1, 8), np.float32), 0)
  scores, places = lists.search(np.ones((3, 8), np.float32), 5, 1)
  assert scores.shape == places.shape == (3, 0)


def test_a_missing_library(monkeypatch):
  monkeypatch.setitem(sys.modules, 'faiss', None)
  with pytest.raises(UserError, match=r"pip install 'dreamprvr_jax\[lists\]'"):
    BranchLists.trained(np.zeros((1, 8), np.float32), 0)
