"""Pictures as queries."""

import io

import numpy as np
import pytest
from PIL import Image

from dreamprvr_jax.archive.serving.files import VideoFiles
from dreamprvr_jax.archive.serving.limits import Limits
from tests.helpers.searching import WIDTH
from tests.helpers.serving import open_index, served
from tests.helpers.videos import make_video

PICTURE = '/api/search/picture'


def query_of(picture):
  """Returns a query from the brightness of a picture."""
  found = np.linspace(1, 2, WIDTH) * picture.mean()
  return np.asarray(found, np.float32)


@pytest.fixture(scope='module')
def served_pictures(tmp_path_factory):
  root = tmp_path_factory.mktemp('pictures')
  path = make_video(root / 'v3.mp4', pictures=30)
  files = VideoFiles(root, {'v3': path})
  limits = Limits(upload_bytes=200_000)
  index = open_index(root)
  with served(index, pictures=query_of, files=files, limits=limits) as (
    client,
    _,
  ):
    yield client, index


@pytest.fixture
def client(served_pictures):
  return served_pictures[0]


def content_of(kind='JPEG', size=(40, 30), colour=(90, 90, 90)):
  out = io.BytesIO()
  Image.new('RGB', size, colour).save(out, kind)
  return out.getvalue()


def sent(client, content, kind='image/jpeg', **options):
  return client.post(
    PICTURE, content=content, headers={'content-type': kind}, params=options
  )


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'GIF'])
def test_a_picture_is_answered(kind, served_pictures):
  client, index = served_pictures
  answer = sent(client, content_of(kind), f'image/{kind.lower()}', k=4)
  assert answer.status_code == 200
  content = answer.json()
  assert content['query'] == ''
  query = query_of(np.full((30, 40, 3), 90, np.uint8))[None]
  (expected,) = index.search_encoded(query, 4)
  found = [hit['video'] for hit in content['hits']]
  assert found == [hit.video_id for hit in expected]
  bare = sent(client, content_of(kind), k=1, moments=1, timeline=False).json()
  assert bare['hits'][0]['timeline'] is None


def test_large_pictures_are_scaled_while_they_wait(client):
  answer = sent(client, content_of(size=(3000, 2000)))
  assert answer.status_code == 200


@pytest.mark.parametrize(
  ('content', 'kind', 'status', 'sentence'),
  [
    (b'', 'image/png', 400, 'no picture'),
    (b'no picture', 'image/png', 400, 'no picture'),
    (content_of()[:300], 'image/jpeg', 400, 'cannot be read'),
    (content_of('BMP'), 'image/bmp', 400, 'no picture'),
    (content_of('TIFF'), 'image/tiff', 400, 'no picture'),
    (content_of('PNG', (5000, 5000)), 'image/png', 400, '24,000,000'),
    (content_of(), 'text/plain', 415, 'content type'),
    (content_of(), 'multipart/form-data', 415, 'content type'),
    (b'x' * 200_001, 'image/png', 413, '200,000 bytes'),
  ],
)
def test_what_is_no_query(content, kind, status, sentence, client):
  answer = sent(client, content, kind)
  assert answer.status_code == status
  assert sentence in answer.json()['error']


def test_numbers_of_a_picture_search(client):
  for wish in ({'k': 0}, {'k': 101}, {'moments': 11}, {'timeline': 'x'}):
    assert sent(client, content_of(), **wish).status_code == 400


def test_a_picture_of_a_video(client):
  like = {'like': {'video': 'v3', 'at': 1.0}, 'k': 3}
  answer = client.post('/api/search', json=like)
  assert answer.status_code == 200
  assert len(answer.json()['hits']) == 3
  for video, sentence in (('v4', 'no file'), ('v99', 'no video')):
    like = {'like': {'video': video, 'at': 1.0}}
    answer = client.post('/api/search', json=like)
    assert answer.status_code == 404
    assert sentence in answer.json()['error']


def test_the_page_knows_what_can_be_asked(client):
  assert client.get('/api/health').json()['reads'] == ['text', 'picture']


def test_filters(client):
  wish = {'k': 100, 'min_seconds': 50, 'duplicates': True}
  words = client.post('/api/search', json={'query': 'x', **wish}).json()
  picture = sent(client, content_of(), **wish).json()
  for found in (words, picture):
    assert found['hits']
    assert all(hit['duration'] >= 50 for hit in found['hits'])
  none = {'query': 'x', 'folder': 'nowhere'}
  assert client.post('/api/search', json=none).json()['hits'] == []


@pytest.mark.parametrize(
  ('wish', 'sentence'),
  [
    ({'min_seconds': 5, 'max_seconds': 4}, 'no video lasts'),
    ({'after': '31.5.2024'}, 'after=31.5.2024: this is no date'),
    ({'after': '2024-05-31', 'before': '2024-05-31'}, 'no file was changed'),
  ],
)
def test_impossible_filters(wish, sentence, client):
  for answer in (
    client.post('/api/search', json={'query': 'x', **wish}),
    sent(client, content_of(), **wish),
  ):
    assert answer.status_code == 422
    assert sentence in answer.json()['error']
