"""What the archive has, as the start page shows it."""

import os

import pytest

from dreamprvr_jax.archive.serving.files import VideoFiles
from tests.helpers.serving import VIDEOS, open_index, served


@pytest.fixture(scope='module')
def client(tmp_path_factory):
  root = tmp_path_factory.mktemp('catalogue')
  paths = {}
  for number, place in enumerate(
    ('2023/May/one.mp4', '2023/two.mp4', '2024/\u00e9t\u00e9.mp4', 'top.mp4')
  ):
    path = root / 'videos' / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    day = 86400 * (100 + number)
    os.utime(path, (day + 43200, day + 43200))
    paths[f'v{number}'] = path
  files = VideoFiles(root / 'videos', paths)
  with served(open_index(root), files=files, ready=False) as (client, _):
    yield client


def titles(client, **wish):
  found = client.get('/api/videos', params=wish).json()
  return [one['title'] for one in found['videos']]


def test_pages_of_the_archive(client):
  first = client.get('/api/videos?limit=20').json()
  assert first['total'] == VIDEOS
  rest = client.get('/api/videos?limit=200&offset=20').json()
  found = [one['video'] for one in first['videos'] + rest['videos']]
  assert len(set(found)) == VIDEOS
  assert client.get('/api/videos?offset=99').json()['videos'] == []
  for wish in ('limit=201', 'offset=-1', 'order=colour'):
    assert client.get(f'/api/videos?{wish}').status_code == 400


def test_folders_and_facts(client):
  content = client.get('/api/videos?folder=2023').json()
  assert content['folders'] == {'2023': 2, '2023/May': 1, '2024': 1}
  assert [one['title'] for one in content['videos']] == ['two.mp4', 'one.mp4']
  two = content['videos'][0]
  assert (two['video'], two['folder']) == ('v1', '2023')
  assert two['date'] == '1970-04-12'
  assert two['duration'] == 11.0
  assert two['file']['url'] == '/videos/v1'
  assert titles(client, folder='2023/May') == ['one.mp4']
  assert titles(client, folder='202') == []


def test_parts_of_names(client):
  assert titles(client, name='TWO') == ['two.mp4']
  # Either Unicode form finds it.
  assert titles(client, name='e\u0301te\u0301') == ['\u00e9t\u00e9.mp4']
  assert titles(client, name='2024/') == ['\u00e9t\u00e9.mp4']


def test_orders(client):
  latest = titles(client, order='date', limit=4)
  assert latest == ['top.mp4', '\u00e9t\u00e9.mp4', 'two.mp4', 'one.mp4']
  longest = client.get('/api/videos?order=length&limit=200').json()['videos']
  seconds = [one['duration'] for one in longest]
  known = [x for x in seconds if x is not None]
  assert known == sorted(known, reverse=True)
  assert seconds[: len(known)] == known
