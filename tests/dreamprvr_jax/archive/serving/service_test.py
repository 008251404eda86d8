"""A server picks up a changed index without a restart."""

import time

import pytest

from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.compaction import remove
from dreamprvr_jax.archive.serving import service as services
from dreamprvr_jax.archive.serving.watch import Watch
from dreamprvr_jax.errors import UserError
from tests.helpers.searching import made, retriever, videos_of
from tests.helpers.serving import VIDEOS, contents_of, open_index, served


@pytest.fixture
def quick(monkeypatch):
  monkeypatch.setattr(services, '_LOOK', 0.05)
  monkeypatch.setattr(services, '_RETRY', 0.2)
  monkeypatch.setattr(services, '_PAUSE', 0)


def wait_for(condition):
  end = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.02)


def test_changes_are_seen(tmp_path, quick):
  index = open_index(tmp_path)
  formers = []

  def reopen(former):
    formers.append(former)
    return contents_of(open_index(tmp_path))

  with served(index, reopen=reopen) as (client, service):
    count = lambda: client.get('/api/health').json()['videos']
    asked = {'query': 'x', 'k': 100}
    found = lambda: client.post('/api/search', json=asked).json()
    assert len(found()['hits']) == VIDEOS
    held = service.contents
    remove(index.store.directory, ['v3', 'v4'])
    wait_for(lambda: count() == VIDEOS - 2)
    assert {hit['video'] for hit in found()['hits']}.isdisjoint({'v3', 'v4'})
    assert client.get('/api/videos/v3').status_code == 404
    assert formers == [held]
    # Who still has the former contents gets whole answers from them.
    assert held.about('v3').title == 'v3'
    more = videos_of(made(VIDEOS + 5, 3), range(VIDEOS, VIDEOS + 5))
    writer.append(index.store.directory, retriever(), more)
    wait_for(lambda: count() == VIDEOS + 3)
    assert found()['videos'] == VIDEOS + 3
    assert client.get(f'/api/videos/v{VIDEOS + 1}').is_success


def test_damage_is_found_in_the_background(tmp_path, caplog):
  index = open_index(tmp_path)
  directory = index.store.directory
  name = index.store.manifest.segments[0].name
  path = directory / 'segments' / name / 'clip_tokens.npy'
  raw = path.read_bytes()
  path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
  with served(index) as (client, _):
    found = lambda: client.get('/api/health').json()['damaged']
    wait_for(found)
    assert found() == [f'segments/{name}/clip_tokens.npy']
    assert 'dreamprvr_damaged_files 1.0' in client.get('/metrics').text
    # Searches go on.
    assert client.post('/api/search', json={'query': 'x'}).is_success
  assert 'clip_tokens.npy has the checksum' in caplog.text


def test_the_last_video_goes_and_others_come(tmp_path, quick):
  index = open_index(tmp_path)
  reopen = lambda former: contents_of(open_index(tmp_path))
  with served(index, reopen=reopen) as (client, _):
    count = lambda: client.get('/api/health').json()['videos']
    search = lambda: client.post('/api/search', json={'query': 'x'}).json()
    remove(index.store.directory, [f'v{i}' for i in range(VIDEOS)])
    wait_for(lambda: count() == 0)
    assert search()['hits'] == []
    assert client.get('/api/videos').json()['videos'] == []
    assert client.get('/').is_success
    more = videos_of(made(VIDEOS + 5, 3), range(VIDEOS, VIDEOS + 5))
    writer.append(index.store.directory, retriever(), more)
    wait_for(lambda: count() == 5)
    assert len(search()['hits']) == 5


def test_a_change_that_cannot_be_opened(tmp_path, quick, caplog):
  index = open_index(tmp_path)
  broken = [True]

  def reopen(former):
    if broken:
      raise UserError('the index is damaged')
    return contents_of(open_index(tmp_path))

  with served(index, reopen=reopen) as (client, service):
    remove(index.store.directory, ['v3'])
    wait_for(lambda: 'the former one is served' in caplog.text)
    time.sleep(0.5)
    assert caplog.text.count('the index is damaged') == 1
    assert client.post('/api/search', json={'query': 'x'}).is_success
    assert len(service.contents) == VIDEOS
    # It is tried again without another change.
    broken.clear()
    wait_for(lambda: len(service.contents) == VIDEOS - 1)
  assert 'Traceback' not in caplog.text


def test_a_watch_sees_each_change_once(tmp_path):
  index = open_index(tmp_path)
  watch = Watch(index.store.directory)
  assert not watch.changed()
  index.manifest.write(index.store.directory)
  assert watch.changed()
  assert not watch.changed()
  (index.store.directory / 'manifest.json').unlink()
  assert not watch.changed()
