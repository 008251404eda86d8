"""A database in a folder."""

import pytest

from dreamprvr_jax.archive.database import edge
from dreamprvr_jax.archive.database.database import Database
from dreamprvr_jax.archive.database.export import export
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.errors import UserError
from tests.helpers.databases import needs_edge
from tests.helpers.searching import made, retriever, videos_of


@pytest.fixture
def store(tmp_path):
  writer.create(tmp_path / 'index', retriever(), videos_of(made(4, 1)))
  return Store(tmp_path / 'index')


@needs_edge
def test_a_folder_with_other_things_is_left_alone(store, tmp_path):
  place = tmp_path / 'photos'
  place.mkdir()
  (place / 'me.jpg').write_text('me')
  with pytest.raises(UserError, match=r'has other files \(me\.jpg\)'):
    export(str(place), store)
  with pytest.raises(UserError, match='is a file'):
    export(str(place / 'me.jpg'), store)
  assert [path.name for path in place.iterdir()] == ['me.jpg']


@needs_edge
def test_a_shard_of_others_is_left_alone(store, tmp_path):
  song = tmp_path / 'songs/shard/la.wav'
  song.parent.mkdir(parents=True)
  song.write_text('la')
  with pytest.raises(UserError, match=r'other files \(shard\) and no database'):
    export(str(tmp_path / 'songs'), store)
  assert song.read_text() == 'la'


@needs_edge
def test_a_creation_that_was_stopped_is_made_again(store, tmp_path):
  place = tmp_path / 'db'
  export(str(place), store)
  (place / 'shard/edge_config.json').unlink()
  assert export(str(place), store).sent == 4


@needs_edge
def test_a_damaged_database(store, tmp_path):
  place = tmp_path / 'db'
  export(str(place), store)
  (place / 'shard/edge_config.json').write_text('{')
  for call in (export, Database):
    with pytest.raises(UserError, match=r'cannot be opened \(.*export the ind'):
      call(str(place), store)


@needs_edge
def test_a_panic_of_the_engine_is_a_damaged_database(store, tmp_path):
  place = tmp_path / 'db'
  export(str(place), store)
  (status,) = place.glob('shard/segments/*/vector_storage-clip/vectors/status*')
  status.write_bytes(b'')
  with pytest.raises(UserError, match='cannot be opened'):
    Database(str(place), store)


@needs_edge
def test_a_mistake_of_the_program_is_none_of_the_user(store, tmp_path):
  engine = edge.Edge(str(tmp_path / 'db'))
  with pytest.raises(RuntimeError, match='has no database yet'):
    engine.count()
  engine.create(16, product=False)
  with pytest.raises(TypeError), engine._failing('cannot be read'):
    raise TypeError
  with pytest.raises(KeyboardInterrupt), engine._failing('cannot be read'):
    raise KeyboardInterrupt
  engine.close()


def test_a_library_that_is_missing(store, monkeypatch):
  monkeypatch.setattr(edge, '_LIBRARY', 'qdrant_that_is_not_there')
  for call in (export, Database):
    with pytest.raises(UserError, match=r"pip install 'dreamprvr_jax\[data"):
      call('anywhere', store)
