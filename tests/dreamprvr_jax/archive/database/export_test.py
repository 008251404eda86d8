"""An index is exported; a second export sends what changed."""

import importlib.util

import numpy as np
import pytest

from dreamprvr_jax.archive.database import database, export
from dreamprvr_jax.archive.database.database import Database
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.compaction import compact, remove
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.errors import UserError
from tests.helpers.databases import BOTH, place_of
from tests.helpers.searching import made, retriever, videos_of

VIDEOS = 30


@pytest.fixture(params=BOTH)
def place(request, tmp_path, monkeypatch):
  monkeypatch.setattr(export, '_BATCH', 8)
  return place_of(request.param, tmp_path, monkeypatch)


@pytest.fixture(scope='module')
def data():
  return made(VIDEOS + 10, 5)


@pytest.fixture
def folder(data, tmp_path):
  videos = videos_of(data, np.arange(VIDEOS))
  writer.create(tmp_path / 'index', retriever(), videos)
  return tmp_path / 'index'


def points(place):
  """Returns the number of points, and what the videos' own points say."""
  engine = database.open_engine(place)
  try:
    return engine.count(), {x['video']: x['digest'] for x in engine.videos()}
  finally:
    engine.close()


def sent(place, folder):
  done = export.export(place, Store(folder))
  count, entries = points(place)
  # A point for each vector and each video, and one for the index.
  assert count == done.vectors + done.videos + 1
  assert sorted(entries) == sorted(Store(folder).rows_of())
  assert all(entries.values())
  return done.sent, done.removed


def test_only_what_changed_is_sent(place, folder, data, monkeypatch):
  monkeypatch.setattr(export, '_BUILT', 40)
  assert sent(place, folder) == (VIDEOS, 0)
  assert sent(place, folder) == (0, 0)
  writer.append(folder, retriever(), videos_of(data, [31, 33]))
  remove(folder, ['v3', 'v11', 'v12'])
  assert sent(place, folder) == (2, 3)
  # The same tokens in other segments.
  compact(folder)
  with pytest.raises(UserError, match='had other videos when'):
    Database(place, Store(folder))
  assert sent(place, folder) == (0, 0)
  # A video with other tokens.
  remove(folder, ['v5'])
  other = videos_of({**data, 'clips': data['clips'][::-1]}, [5])
  writer.append(folder, retriever(), other)
  assert sent(place, folder) == (1, 0)
  Database(place, Store(folder)).close()


def test_a_stopped_export_goes_on(place, folder, data, monkeypatch):
  class Kill(BaseException):
    pass

  original = export.open_engine
  calls, stops = [], [0]

  def stopping(method):
    def call(*args, **options):
      calls.append(method)
      if len(calls) == stops[0]:
        raise Kill
      return method(*args, **options)

    return call

  def fragile(place):
    """Returns an engine that is killed at one of its writes."""
    engine = original(place)
    for name in ('put', 'delete', 'build'):
      setattr(engine, name, stopping(getattr(engine, name)))
    return engine

  monkeypatch.setattr(export, 'open_engine', fragile)
  for gone, stop in enumerate([1, 2, 3, 4, 5, 7, 3, 6], 20):
    calls.clear()
    stops[0] = stop
    with pytest.raises(Kill):
      export.export(place, Store(folder))
    with pytest.raises(UserError, match='was not exported to its end'):
      Database(place, Store(folder))
    # Videos that were written when the export stopped change meanwhile.
    remove(folder, [f'v{gone}'])
  stops[0] = 0
  sent(place, folder)
  count, _ = points(place)
  fresh = export.export(place, Store(folder))
  assert (fresh.sent, fresh.removed) == (0, 0)
  assert count == fresh.vectors + fresh.videos + 1


def test_lost_points_are_found_and_sent_again(place, folder, data, monkeypatch):
  sent(place, folder)
  engine = database.open_engine(place)
  entry = next(
    export.Entry.read(x) for x in engine.videos() if x['video'] == 'v4'
  )
  engine.delete(entry.ids('v4')[:1])
  engine.close()
  with pytest.raises(UserError, match=r'has \d+ points where \d+ were written'):
    Database(place, Store(folder))
  assert sent(place, folder) == (VIDEOS, 0)
  Database(place, Store(folder)).close()
  # Points that are lost while the export runs.
  writer.append(folder, retriever(), videos_of(data, [35]))
  with monkeypatch.context() as lost:
    lost.setattr(export, 'points_of', lambda *_: [])
    with pytest.raises(UserError, match=r'points where .* export again'):
      export.export(place, Store(folder))
  with pytest.raises(UserError, match='was not exported to its end'):
    Database(place, Store(folder))
  assert sent(place, folder) == (VIDEOS + 1, 0)


def test_another_index_is_not_overwritten(place, folder, data, tmp_path):
  sent(place, folder)
  other = tmp_path / 'other'
  writer.create(other, retriever(), videos_of(data, [35, 36]))
  before = points(place)
  with pytest.raises(UserError, match="has 30 videos, 'v0' among them, and no"):
    export.export(place, Store(other))
  weights = tmp_path / 'weights'
  writer.create(weights, retriever(digest='new'), videos_of(data, [1, 2]))
  with pytest.raises(UserError, match=r"weights 'plain', the index .* of 'new"):
    export.export(place, Store(weights))
  assert points(place) == before
  remove(other, ['v35', 'v36'])
  with pytest.raises(UserError, match='no videos to export'):
    export.export(place, Store(other))


@pytest.mark.skipif(
  importlib.util.find_spec('qdrant_edge') is None,
  reason='needs Qdrant Edge (extra database)',
)
def test_what_another_version_wrote_is_left_alone(folder, tmp_path):
  place = str(tmp_path / 'db')
  sent(place, folder)
  engine = database.open_engine(place)
  about = database.About('plain', 16, False, version=99)
  engine.put([about.point()])
  engine.close()
  with pytest.raises(UserError, match='or that another version wrote'):
    export.export(place, Store(folder))
