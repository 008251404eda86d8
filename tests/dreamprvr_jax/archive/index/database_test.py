"""An index in a vector database."""

import importlib.util

import numpy as np
import pytest

from dreamprvr_jax import folders
from dreamprvr_jax.archive.index import database, writer
from dreamprvr_jax.archive.index.compaction import remove
from dreamprvr_jax.archive.index.database import Database
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.base import RetrievalModel
from tests.helpers.models import shared_fields
from tests.helpers.retrieval import expected_scores
from tests.helpers.searching import made, retriever, videos_of

VIDEOS, QUERIES = 300, 12

needs_lancedb = pytest.mark.skipif(
  importlib.util.find_spec('lancedb') is None,
  reason='needs LanceDB (extra database)',
)


@pytest.fixture(scope='module')
def data():
  return made(VIDEOS, QUERIES)


@pytest.fixture
def index(data, tmp_path):
  videos = videos_of(data, batch=100)
  writer.create(tmp_path / 'index', retriever(), videos)
  return Index.open(tmp_path / 'index', retriever())


def refused(place, store, sentence):
  with pytest.raises(UserError, match=sentence):
    Database(str(place), store)


@needs_lancedb
# The database compares all vectors, or uses an approximate index.
@pytest.mark.parametrize('indexed', [1000, 100])
def test_candidates_of_both_branches(
  indexed, index, data, monkeypatch, tmp_path
):
  monkeypatch.setattr(database, '_INDEXED', indexed)
  place = str(tmp_path / 'db')
  assert database.export(place, index.store) == VIDEOS
  found = Database(place, index.store)
  queries = index.searcher.encode(data['words'], data['word_mask'])
  rows = found(queries, 20)
  clip, frame, whole = expected_scores(data)
  for i in range(QUERIES):
    near = [set(np.argsort(-x[i])[:20].tolist()) for x in (clip, frame)]
    named = set(rows[i][rows[i] >= 0].tolist())
    assert len(named) == (rows[i] >= 0).sum() >= 20
    assert len(named & (near[0] | near[1])) >= 0.9 * len(near[0] | near[1])
  assert index.searcher.recall(queries, 10, first_pass=found) >= 0.9
  hits = index.search(data['words'], k=10, first_pass=found)
  for i, row in enumerate(hits):
    for hit in row:
      own = whole[i, int(hit.video_id[1:])]
      assert hit.score == pytest.approx(own, abs=1e-6)
  # With all videos as candidates the search is exact.
  hits = index.search(data['words'], k=10, first_pass=found, rescore=30)
  exact = index.search(data['words'], k=10)
  names = lambda rows: [[hit.video_id for hit in row] for row in rows]
  if indexed > VIDEOS:
    assert names(hits) == names(exact)


@needs_lancedb
def test_a_database_is_of_one_index(index, data, tmp_path):
  place, store = tmp_path / 'db', index.store
  refused(place, store, r'has no database; write one with --mode=export')
  assert not place.exists()
  database.export(str(place), store)
  remove(store.directory, ['v7', 'v9'])
  fewer = Store(store.directory)
  refused(place, fewer, r"differ in 2 videos, 'v7' among them; export the")
  # The second export goes into the same folder.
  assert database.export(str(place), fewer) == VIDEOS - 2
  found = Index.open(store.directory, retriever()).searcher.search(
    data['words'][:, 0], 5, first_pass=Database(str(place), fewer)
  )
  assert not np.isin([7, 9], found[1]).any()
  other = tmp_path / 'other'
  writer.create(other, retriever(digest='other'), videos_of(data, [1, 2]))
  refused(place, Store(other), r"weights 'plain', the index .* of 'other'")
  remove(other, ['v1', 'v2'])
  with pytest.raises(UserError, match='no videos to export'):
    database.export(str(tmp_path / 'empty'), Store(other))


@needs_lancedb
def test_a_folder_with_other_things_is_left_alone(index, tmp_path):
  place = tmp_path / 'photos'
  place.mkdir()
  (place / 'me.jpg').write_text('me')
  with pytest.raises(UserError, match=r'has other files \(me\.jpg\)'):
    database.export(str(place), index.store)
  with pytest.raises(UserError, match='is a file'):
    database.export(str(place / 'me.jpg'), index.store)
  assert (place / 'me.jpg').read_text() == 'me'


@needs_lancedb
def test_a_table_of_somebody_else_is_left_alone(index, tmp_path):
  import lancedb

  place = str(tmp_path / 'db')
  lancedb.connect(place).create_table('videos', [{'title': 'mine'}])
  refused(place, index.store, r"has tokens of the weights ''")
  with pytest.raises(UserError, match='that --mode=export did not write'):
    database.export(place, index.store)
  table = lancedb.connect(place).open_table('videos')
  assert table.to_arrow().to_pylist() == [{'title': 'mine'}]
  damaged = tmp_path / 'damaged/videos.lance'
  damaged.mkdir(parents=True)
  (damaged / 'a.txt').write_text('mine')
  for call in (database.export, Database):
    with pytest.raises(UserError, match='cannot be opened'):
      call(str(damaged.parent), index.store)
  assert [path.name for path in damaged.iterdir()] == ['a.txt']


def test_a_library_that_is_missing(index, monkeypatch):
  monkeypatch.setattr(database, '_LIBRARY', 'lancedb_that_is_not_there')
  for call in (database.export, Database):
    with pytest.raises(UserError, match=r"pip install 'dreamprvr_jax\[data"):
      call('anywhere', index.store)


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


@needs_lancedb
def test_one_writer_at_a_time(index, tmp_path):
  place = str(tmp_path / 'db')
  with (
    folders.held(place, 'database'),
    pytest.raises(UserError, match=f'the database {place} is in use by'),
  ):
    database.export(place, index.store)
  assert not (tmp_path / 'db').exists()
  for _ in range(2):
    assert database.export(place, index.store) == VIDEOS
