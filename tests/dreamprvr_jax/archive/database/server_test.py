"""A database at an address: what is refused, with a server that says so."""

import contextlib
import http.server
import json
import socket
import threading
import uuid

import pytest

from dreamprvr_jax.archive.database import points, server
from dreamprvr_jax.archive.database.database import Database
from dreamprvr_jax.archive.database.export import export
from dreamprvr_jax.archive.database.server import Server
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.errors import UserError
from tests.helpers.databases import ADDRESS, needs_client, pretended
from tests.helpers.searching import made, retriever, videos_of


@contextlib.contextmanager
def answering(status, content, asked=None):
  """Yields the address of a server that answers everything alike."""

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      if asked is not None:
        asked.append((self.path, self.headers.get('api-key')))
      body = json.dumps(content).encode()
      self.send_response(status)
      self.send_header('Content-Length', str(len(body)))
      self.end_headers()
      self.wfile.write(body)

    def log_message(self, *args):
      pass

  found = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=found.serve_forever, daemon=True)
  thread.start()
  try:
    yield f'http://127.0.0.1:{found.server_port}'
  finally:
    found.shutdown()
    found.server_close()
    thread.join()


def info(version):
  return {'title': 'qdrant', 'version': version}


@needs_client
@pytest.mark.parametrize(
  ('place', 'sentence'),
  [
    ('http://h:1', 'is no address of a collection; give http://HOST'),
    ('s3://bucket/name', 'is no address of a collection'),
    ('http:///name', 'is no address of a collection'),
    ('http://h:port/name', 'is no address of a collection'),
    ('http://h:70000/name', 'is no address of a collection'),
    ('http://[::1/name', 'is no address of a collection'),
    ('http://me:secret@h/n', 'has a password or a key; put the key into the'),
    ('http://me:secret@h', 'has a password or a key'),
    ('http://h/n?api_key=secret', 'environment variable QDRANT_API_KEY'),
  ],
)
def test_addresses_that_are_none(place, sentence):
  with pytest.raises(UserError, match=sentence) as error:
    Server(place)
  assert 'secret' not in str(error.value)


@needs_client
def test_a_server_that_cannot_be_reached():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    place = f'http://127.0.0.1:{free.getsockname()[1]}/n'
    with pytest.raises(UserError, match=f'{place} cannot be reached .*check t'):
      Server(place)


@needs_client
@pytest.mark.parametrize(
  ('status', 'content', 'sentence'),
  [
    (401, {}, 'wants another key .*variable QDRANT_API_KEY'),
    (403, {}, 'wants another key'),
    (500, {}, 'refuses what is asked .*500.*; see the server'),
    (429, {}, 'refuses what is asked'),
    (200, {}, 'cannot be reached'),
    (200, info('none'), 'has version none; Qdrant 1.19 or newer is needed'),
    (200, info('1.12.4'), 'has version 1.12.4; Qdrant 1.19 or newer is'),
  ],
)
def test_answers_that_are_none(status, content, sentence):
  with (
    answering(status, content) as address,
    pytest.raises(UserError, match=sentence),
  ):
    Server(f'{address}/n')


@needs_client
@pytest.mark.filterwarnings('ignore:Api key is used with an insecure')
def test_the_key_comes_from_the_environment(monkeypatch):
  asked = []
  monkeypatch.setenv(server.API_KEY, 'secret')
  with answering(200, info('1.19.0-dev'), asked) as address:
    Server(f'{address}/behind/n').close()
  assert asked == [('/behind/', 'secret')] or asked == [('/behind', 'secret')]


@needs_client
@pytest.mark.filterwarnings('ignore:Payload indexes have no effect')
def test_a_collection_of_somebody_else(monkeypatch, tmp_path):
  place = pretended(monkeypatch)
  engine = Server(place)
  assert not engine.exists()
  engine.create(16, product=False)
  assert engine.exists()
  assert engine.facts(points.ABOUT_ID) is None
  assert list(engine.videos()) == []
  mine = points.Point(str(uuid.uuid4()), {}, {'title': 'mine'})
  engine.put([mine])
  writer.create(tmp_path / 'index', retriever(), videos_of(made(4, 1)))
  store = Store(tmp_path / 'index')
  for call in (export, Database):
    with pytest.raises(UserError, match='that --mode=export did not write'):
      call(place, store)
  assert engine.count() == 1
  assert engine.facts(mine.id) == mine.payload


@needs_client
def test_a_library_that_is_missing(monkeypatch):
  monkeypatch.setattr(server, '_LIBRARY', 'qdrant_that_is_not_there')
  with pytest.raises(UserError, match=r"pip install 'dreamprvr_jax\[data"):
    Server(ADDRESS)
