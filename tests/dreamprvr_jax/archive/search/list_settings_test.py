"""Queries made from an index, and the settings measured with them."""

import numpy as np
import pytest

from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.list_settings import own_queries, settings
from tests.helpers.searching import made, retriever, videos_of


def test_queries_lie_apart_from_the_tokens(tmp_path):
  writer.create(tmp_path / 'index', retriever(), videos_of(made(60, 1)))
  store, model = Store(tmp_path / 'index'), retriever().model
  found = own_queries(store, model, 50)
  assert found.shape == (50, 16)
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
  np.testing.assert_array_equal(found, own_queries(store, model, 50))
  # They share a gap.
  assert 0.2 < np.linalg.norm(found.mean(axis=0)) < 0.8


class Fake:
  """Lists that find more with more probes and more depth."""

  videos, most_probes = 1000, 64

  def __init__(self, needs):
    self.needs = needs

  def candidates(self, queries, depth, probes):
    found = np.tile(np.arange(100, 100 + depth), (len(queries), 1))
    if (probes, depth) >= self.needs:
      found[:, :10] = np.arange(10)
    return found


@pytest.mark.parametrize(
  ('needs', 'probes', 'depth', 'share'),
  [((16, 48), 16, 48, 1.0), ((8, 0), 8, 16, 1.0), ((99, 0), 64, 512, 0.0)],
)
def test_settings_are_the_least_that_find_enough(needs, probes, depth, share):
  best = np.tile(np.arange(10), (20, 1))
  queries = np.zeros((20, 4), np.float32)
  # Scoring takes far longer than the lists.
  found = settings(Fake(needs), queries, best, 0.9, lambda q, n: sum(range(99)))
  assert found[2] == share
  if share:
    assert found[:2] <= (64, depth)
  else:
    assert found[:2] == (probes, depth)
