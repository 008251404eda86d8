"""An index that is served in this process, with word features out of hashes."""

import contextlib
import time

import numpy as np
from starlette.testclient import TestClient

from dreamprvr_jax import parallel
from dreamprvr_jax.search import writer
from dreamprvr_jax.search.index import Index
from serving.app import make_app
from serving.service import Service
from tests.helpers.searching import WIDTH, made, retriever, videos_of

VIDEOS = 45
ADDRESS = 'http://127.0.0.1:8000'


def words(text):
  """Returns a row of numbers for each word, always the same."""
  rows = [
    np.random.default_rng(list(word.encode())).normal(size=WIDTH)
    for word in text.split()
  ]
  return np.asarray(rows, np.float32).reshape(-1, WIDTH)


def open_index(folder):
  """Returns an index of made videos v0, v1 and so on, written if need be."""
  place = folder / 'index'
  if not place.exists():
    writer.create(place, retriever(), videos_of(made(VIDEOS, 3)))
  return Index.open(place, retriever(), mesh=parallel.make_mesh(1, 1))


@contextlib.contextmanager
def served(index, words=words, *, local=True, ready=True, **options):
  """Yields a client of the index and the service."""
  service = Service(index, words, **options)
  app = make_app(service, local=local)
  with TestClient(
    app, base_url=ADDRESS, raise_server_exceptions=False
  ) as client:
    end = time.monotonic() + 60
    while ready and service.status != 'ready':
      assert time.monotonic() < end
      assert service.failure is None
      time.sleep(0.01)
    yield client, service
