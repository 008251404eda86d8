"""What a database finds is measured, and decides how deep it searches."""

import numpy as np
import pytest

from dreamprvr_jax.archive.database import recall
from dreamprvr_jax.archive.database.database import Database
from dreamprvr_jax.archive.database.export import export
from dreamprvr_jax.archive.database.recall import (
  Exact,
  choose_depth,
)
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.list_settings import own_queries
from tests.helpers.databases import needs_edge
from tests.helpers.searching import made, retriever, videos_of


@pytest.fixture
def index(tmp_path):
  writer.create(tmp_path / 'index', retriever(), videos_of(made(60, 1)))
  return Index.open(tmp_path / 'index', retriever())


@needs_edge
def test_the_depth_is_the_first_that_reaches_the_target(
  index, monkeypatch, tmp_path
):
  place = str(tmp_path / 'db')
  export(place, index.store)
  queries = own_queries(index.store, index.retriever.model, 12)
  exact = Exact(index.searcher, index.store, queries, 10)
  shares = {200: 0.3, 400: 1.0}
  honest = Database.__call__

  def worse(self, queries, count):
    """Names only some of the candidates."""
    rows = honest(self, queries, count)
    share = shares.get(self.about.depth, 1.0)
    lost = np.arange(rows.shape[1]) >= max(share * rows.shape[1], 20)
    return np.where(lost, -1, rows)

  monkeypatch.setattr(Database, '__call__', worse)
  with Database(place, index.store) as database:
    found = choose_depth(database, exact)
    assert database.about.depth == 400
    assert found.value >= recall.TARGET
    assert (found.k, found.queries) == (10, 12)
    # The last depth is kept if none reaches the target, and a large database
    # is never compared as a whole.
    shares.update(dict.fromkeys(recall.DEPTHS, 0.3))
    choose_depth(database, exact)
    assert database.about.depth == 0
    monkeypatch.setattr(recall, 'COMPARED', 10)
    assert choose_depth(database, exact).value < recall.TARGET
    assert database.about.depth == recall.DEPTHS[-2]
    shares.clear()
    choose_depth(database, exact)
  with Database(place, index.store) as database:
    assert database.about.depth == recall.DEPTHS[0]


@needs_edge
def test_an_index_with_few_videos(tmp_path):
  writer.create(tmp_path / 'index', retriever(), videos_of(made(3, 1)))
  index = Index.open(tmp_path / 'index', retriever())
  export(str(tmp_path / 'db'), index.store)
  queries = own_queries(index.store, index.retriever.model, 4)
  with Database(str(tmp_path / 'db'), index.store) as database:
    exact = Exact(index.searcher, index.store, queries, 10)
    assert exact.recall(database) == recall.Recall(1.0, 3, 4, 0.0)
