"""The paths of pictures and of what is made from files."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from dreamprvr_jax.archive.serving.files import VideoFiles
from dreamprvr_jax.archive.serving.thumbnails import TILE
from tests.helpers.serving import open_index, served
from tests.helpers.videos import make_video


@pytest.fixture(scope='module')
def client(tmp_path_factory):
  root = tmp_path_factory.mktemp('media')
  videos = root / 'videos'
  videos.mkdir()
  make_video(videos / 'v3.mp4', pictures=30)
  make_video(videos / 'v4.avi', pictures=30)
  make_video(videos / 'v5.mkv', pictures=30)
  (videos / 'v6.mp4').write_bytes(b'no video')
  paths = {path.stem: path for path in videos.iterdir()}
  files = VideoFiles(videos, paths)
  with served(
    open_index(root), files=files, ready=False, cache=root / 'cache'
  ) as (client, _):
    yield client


def test_how_files_play(client):
  found = {
    video: client.get(f'/api/videos/{video}/playing').json()
    for video in ('v3', 'v4', 'v5')
  }
  assert [one['plays'] for one in found.values()] == ['yes', 'no', 'maybe']
  assert [one['copied'] for one in found.values()] == [True, False, True]
  assert found['v3']['piece_seconds'] == 60
  for video in ('v6', 'v7', 'v99'):
    answer = client.get(f'/api/videos/{video}/playing')
    assert answer.status_code == 404
    assert list(answer.json()) == ['error']


def seconds_of(answer):
  assert answer.headers['content-type'] == 'video/mp4'
  with av.open(io.BytesIO(answer.content)) as container:
    return container.duration / 1e6


def test_converted_files(client):
  whole = client.get('/converted/v5')
  assert seconds_of(whole) == pytest.approx(3, abs=0.2)
  piece = client.get('/converted/v4?piece=0')
  assert seconds_of(piece) == pytest.approx(3, abs=0.2)
  part = client.get('/converted/v4?piece=0', headers={'range': 'bytes=0-9'})
  assert part.status_code == 206
  assert part.content == piece.content[:10]
  head = client.head('/converted/v4?piece=0')
  assert head.headers['content-length'] == str(len(piece.content))
  for path, sentence in (
    ('v4', 'in pieces'),
    ('v4?piece=1', 'cannot be converted'),
    ('v6?piece=0', 'cannot be converted'),
    ('v7?piece=0', 'no file'),
  ):
    answer = client.get(f'/converted/{path}')
    assert answer.status_code == 404
    assert sentence in answer.json()['error']
  assert client.get('/converted/v4?piece=-1').status_code == 400


def test_saved_stretches(client):
  answer = client.get('/clips/v4?start=1&end=2.5')
  assert seconds_of(answer) == pytest.approx(1.5, abs=0.2)
  name = answer.headers['content-disposition']
  assert name == "attachment; filename*=UTF-8''v4_1.0-2.5s.mp4"
  for wish in ('start=2&end=2', 'start=3&end=2', 'start=0&end=601', 'end=1'):
    assert client.get(f'/clips/v4?{wish}').status_code == 400
  assert client.get('/clips/v4?start=9&end=10').status_code == 404


@pytest.mark.parametrize('video', ['v3', 'v4'])
def test_strips(video, client):
  answer = client.get(f'/strips/{video}?start=0&end=3&count=6')
  assert answer.headers['content-type'] == 'image/jpeg'
  picture = np.asarray(Image.open(io.BytesIO(answer.content)))
  width, height = TILE
  assert picture.shape == (height, 6 * width, 3)
  for place in range(6):
    # The left half gets brighter by 8 every tenth of a second.
    left = (width - height * 3 // 2) // 2 + place * width
    level = picture[:, left : left + 60].mean()
    step = round(10 * (0.25 + 0.5 * place) - 0.5)
    assert level == pytest.approx(10 + 8 * step, abs=14)
  for wish in ('start=1&end=1', 'start=0&end=3&count=33', 'start=0&end=nan'):
    assert client.get(f'/strips/{video}?{wish}').status_code == 400
  assert client.get('/strips/v6?start=0&end=1').status_code == 404


def test_a_picture_of_a_video_as_a_query(client):
  like = {'like': {'video': 'v99', 'at': 1.0}}
  assert client.post('/api/search', json=like).status_code == 404
