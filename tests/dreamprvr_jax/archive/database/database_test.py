"""A database as the first pass of a search."""

import numpy as np
import pytest

from dreamprvr_jax.archive.database import edge
from dreamprvr_jax.archive.database.database import Database
from dreamprvr_jax.archive.database.export import export
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.base import RetrievalModel
from tests.helpers.databases import BOTH, needs_edge, place_of
from tests.helpers.models import shared_fields
from tests.helpers.retrieval import expected_scores
from tests.helpers.searching import WIDTH, made, retriever, videos_of

VIDEOS, QUERIES = 120, 8


@pytest.fixture(params=BOTH)
def place(request, tmp_path, monkeypatch):
  return place_of(request.param, tmp_path, monkeypatch)


@pytest.fixture(scope='module')
def data():
  return made(VIDEOS, QUERIES)


@pytest.fixture
def index(data, tmp_path):
  writer.create(tmp_path / 'index', retriever(), videos_of(data, batch=60))
  return Index.open(tmp_path / 'index', retriever())


def refused(where, store, sentence):
  with pytest.raises(UserError, match=sentence):
    Database(where, store)


def test_candidates_of_both_branches(place, index, data):
  export(place, index.store)
  queries = index.searcher.encode(data['words'], data['word_mask'])
  clip, frame, whole = expected_scores(data)
  with Database(place, index.store) as found:
    rows = found(queries, 20)
    for i in range(QUERIES):
      near = [set(np.argsort(-x[i])[:20].tolist()) for x in (clip, frame)]
      named = set(rows[i][rows[i] >= 0].tolist())
      assert len(named) == (rows[i] >= 0).sum() >= 20
      assert len(named & (near[0] | near[1])) >= 0.9 * len(near[0] | near[1])
    hits = index.search(data['words'], k=10, first_pass=found)
    for i, row in enumerate(hits):
      for hit in row:
        own = whole[i, int(hit.video_id[1:])]
        assert hit.score == pytest.approx(own, abs=1e-6)
    # With all videos as candidates the search is exact.
    all_of_them = index.search(
      data['words'], k=10, first_pass=found, rescore=VIDEOS // 10
    )
  exact = index.search(data['words'], k=10)
  names = lambda rows: [[hit.video_id for hit in row] for row in rows]
  assert names(all_of_them) == names(exact)


@needs_edge
def test_a_graph_finds_what_all_vectors_give(
  index, data, monkeypatch, tmp_path
):
  monkeypatch.setattr(edge, '_GRAPH_KILOBYTES', 1)
  place = str(tmp_path / 'db')
  export(place, index.store)
  queries = index.searcher.encode(data['words'], data['word_mask'])
  with Database(place, index.store) as found:
    info = found._engine._shard.info()
    assert info.indexed_vectors_count > VIDEOS
    exact = found(queries, 20)
    found.keep(100)
    near = found(queries, 20)
  for a, b in zip(exact, near, strict=True):
    assert len(np.intersect1d(a, b)) >= 0.9 * len(np.unique(a))
  with Database(place, index.store) as found:
    assert found.about.depth == 100


def test_parts_of_a_video_are_one_video(place, tmp_path):
  draw = np.random.default_rng(0)
  counts = [1, 4, 2, 1, 3, 1, 1]
  with writer.open_segment(
    tmp_path / 'x', retriever(), archive={'fps': 2.0}
  ) as segment:
    for i, count in enumerate(counts):
      segment.add(f'v{i}', [part(draw) for _ in range(count)], {'file': 'f'})
  index = Index.open(tmp_path / 'x', retriever())
  export(place, index.store)
  queries = draw.standard_normal((5, WIDTH)).astype(np.float32)
  with Database(place, index.store) as found:
    scores, rows = index.searcher.search(queries, 3, first_pass=found)
    wanted = found(queries, 2)
  exact = index.searcher.search(queries, 3)
  np.testing.assert_array_equal(rows, exact[1])
  np.testing.assert_allclose(scores, exact[0], atol=1e-6)
  # Where a video is named, all of its rows are.
  spans = index.store.rows_of().values()
  for named in wanted:
    whole = [set(span) <= set(named) for span in spans]
    assert sum(len(s) for s, w in zip(spans, whole, strict=True) if w) == sum(
      named >= 0
    )


def part(draw):
  return {
    'clip_tokens': draw.standard_normal((1, 2, WIDTH)).astype(np.float32),
    'frame_tokens': draw.standard_normal((1, 3, WIDTH)).astype(np.float32),
    'frame_mask': np.array([[True, True, False]]),
    'clip_edges': np.linspace(0, 1, 3, dtype=np.float32)[None],
    'frame_edges': np.linspace(0, 1, 4, dtype=np.float32)[None],
    'starts': np.zeros(1),
    'durations': np.array([20.0]),
    'cores': np.array([[0, 1]], np.float32),
  }


def test_products_with_tokens(place, data, tmp_path):
  lengths = np.random.default_rng(0).uniform(0.2, 2, (VIDEOS, 1, 1))
  longer = {**data, 'clips': data['clips'] * lengths.astype(np.float32)}
  writer.create(tmp_path / 'x', retriever(), videos_of(longer))
  store = Store(tmp_path / 'x')
  export(place, store, product=True)
  query = data['words'][:, 0]
  with Database(place, store) as found:
    rows = found(query, 10)
  scores = np.einsum('nd,vsd->nvs', query, store.tokens('clip', np.arange(120)))
  best = np.argsort(-scores.max(axis=-1), axis=1)[:, 0]
  assert np.mean([b in r for b, r in zip(best, rows, strict=True)]) >= 0.9


def test_a_database_is_of_one_index(place, index, data, tmp_path):
  store = index.store
  refused(place, store, r'has no database of the index; export it, with --mode')
  assert not (tmp_path / 'db').exists()
  export(place, store)
  writer.append(store.directory, retriever(), videos_of(data_of_more(), [141]))
  refused(place, Store(store.directory), 'had other videos when the database')
  other = tmp_path / 'other'
  writer.create(other, retriever(digest='other'), videos_of(data, [1, 2]))
  refused(place, Store(other), r"weights 'plain', the index .* of 'other'")


def data_of_more():
  return made(150, 1, seed=1)


@needs_edge
def test_one_process_at_a_time(index, tmp_path):
  place = str(tmp_path / 'db')
  export(place, index.store)
  with Database(place, index.store):
    refused(place, index.store, f'the database {place} is in use by')
    with pytest.raises(UserError, match='is in use by'):
      export(place, index.store)
  Database(place, index.store).close()


def test_scores_that_are_more_than_cosines(data, tmp_path):
  class Other(RetrievalModel):
    def encode_query(self, words, word_mask, *, train=False):
      return words[:, 0]

    def score(self, queries, videos):
      raise NotImplementedError

  writer.create(tmp_path / 'x', retriever(), videos_of(data, [1, 2, 3]))
  index = Index.open(tmp_path / 'x', retriever(Other(**shared_fields())))
  with pytest.raises(UserError, match=r'best cosine .* Other is not'):
    index.search(data['words'], first_pass=lambda queries, count: None)
