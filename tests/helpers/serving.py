"""A real server for an index, with word features from hashes."""

import contextlib
import threading
import time

import httpx
import numpy as np

from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.archive.search.text_queries import TextQuery
from dreamprvr_jax.archive.serving.answers import Answers
from dreamprvr_jax.archive.serving.contents import Contents
from dreamprvr_jax.archive.serving.server import serve
from dreamprvr_jax.archive.serving.service import Service
from dreamprvr_jax.devices import meshes
from tests.helpers.searching import WIDTH, made, retriever, videos_of

VIDEOS = 45


def words(text):
  """Returns a row of numbers for each word, always the same."""
  rows = [
    np.random.default_rng(list(word.encode())).normal(size=WIDTH)
    for word in text.split()
  ]
  return np.asarray(rows, np.float32).reshape(-1, WIDTH)


def open_index(folder):
  """Returns an index of generated videos v0, v1 and so on; writes it if it is
  missing."""
  place = folder / 'index'
  if not place.exists():
    writer.create(place, retriever(), videos_of(made(VIDEOS, 3)))
  return Index.open(place, retriever(), mesh=meshes.make_mesh(1, 1))


def answers_of(index, words=words, pictures=None, *, semantic=True):
  """Returns what answers queries of an index; no words for no sentences."""

  def read(text):
    return TextQuery(text, words(text), '')

  return Answers(index, words and read, pictures, semantic=semantic)


def contents_of(index, words=words, *, files=None, **options):
  """Returns the contents of a server."""
  return Contents(index, answers_of(index, words, **options), files)


@contextlib.contextmanager
def served(index, words=words, *, local=True, ready=True, token='', **options):
  """Yields a client of the index and the service."""
  given = {
    name: options.pop(name)
    for name in ('files', 'semantic', 'pictures')
    if name in options
  }
  begun, found, stop = threading.Event(), {}, []
  failed = options.pop('on_failure', lambda: None)

  def make(ending):
    stop.append(ending)
    fail = lambda: (ending(), failed())
    contents = contents_of(index, words, **given)
    found['service'] = Service(contents, on_failure=fail, **options)
    return found['service']

  def say(line):
    found['port'] = int(line.rpartition(':')[2])
    begun.set()

  def run():
    try:
      host = '127.0.0.1' if local else '0.0.0.0'
      serve(make, host=host, port=0, token=token, say=say)
    except Exception as error:
      found['error'] = error
      begun.set()

  thread = threading.Thread(target=run)
  thread.start()
  try:
    assert begun.wait(60)
    service, address = found['service'], f'http://127.0.0.1:{found["port"]}'
    with httpx.Client(base_url=address, timeout=60) as client:
      end = time.monotonic() + 60
      while ready and service.status != 'ready':
        assert time.monotonic() < end
        assert service.failure is None
        time.sleep(0.01)
      yield client, service
  finally:
    for ending in stop:
      ending()
    thread.join(60)
  # The reason for a failed start is reported there; nothing else may stop it.
  assert found.get('error') is found['service'].failure
