"""Databases of tests: a folder, and a server that is in the process."""

import importlib.util

import pytest

from dreamprvr_jax.archive.database import server

needs_edge = pytest.mark.skipif(
  importlib.util.find_spec('qdrant_edge') is None,
  reason='needs Qdrant Edge (extra database)',
)
needs_client = pytest.mark.skipif(
  importlib.util.find_spec('qdrant_client') is None,
  reason='needs the client of Qdrant (extra database)',
)
ADDRESS = 'http://somewhere:6333/videos'


def place_of(kind, tmp_path, monkeypatch):
  """Returns a place for a database: a folder, or the address of a pretended
  server; see `BOTH`."""
  if kind == 'folder':
    return str(tmp_path / 'db')
  return pretended(monkeypatch)


def pretended(monkeypatch):
  """Returns the address of a pretended server.

  The client of Qdrant has an engine of its own that answers in NumPy; it stands
  for the server.
  """
  import qdrant_client

  client = qdrant_client.QdrantClient(':memory:')
  monkeypatch.setattr(qdrant_client, 'QdrantClient', lambda **_: client)
  monkeypatch.setattr(client, 'close', lambda: None)
  monkeypatch.setattr(server, '_OLDEST', (0, 0))
  # It answers one request at a time.
  monkeypatch.setattr(server, '_REQUESTS', 1)
  return ADDRESS


# Both kinds of places, each where its library is installed.
BOTH = [
  pytest.param('folder', marks=needs_edge),
  pytest.param(
    'address',
    marks=[
      needs_client,
      pytest.mark.filterwarnings('ignore:Payload indexes have no effect'),
      pytest.mark.filterwarnings('ignore:Local mode performs exact'),
    ],
  ),
]
