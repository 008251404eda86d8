"""Serves files, parts of them, and thumbnails; nothing else on the disk."""

import builtins
import concurrent.futures
import dataclasses
import email
import errno
import io
import os
import threading
import unicodedata
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.serving.files import VideoFile, VideoFiles
from dreamprvr_jax.archive.serving.limits import Busy, Limits
from dreamprvr_jax.archive.serving.thumbnails import Thumbnails
from dreamprvr_jax.errors import UserError
from tests.helpers.searching import made, retriever, videos_of
from tests.helpers.serving import open_index, served
from tests.helpers.videos import make_video, turn


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp('served')
  videos = root / 'videos'
  (videos / 'below').mkdir(parents=True)
  make_video(videos / 'v3.mp4', pictures=30)
  make_video(videos / 'below/v4.avi', pictures=30)
  make_video(root / 'v5.mp4', pictures=30)
  (videos / 'v5.mp4').symlink_to(root / 'v5.mp4')
  (videos / 'v6.mp4').write_bytes(b'no video')
  (videos / 'v7.mp4').touch()
  (root / 'secret.txt').write_text('a secret')
  return root


@pytest.fixture(scope='module')
def files(folder):
  root = folder / 'videos'
  found = {path.stem: path for path in root.rglob('*.*')}
  return VideoFiles(root, {**found, 'v8': folder / 'secret.txt'})


@pytest.fixture(scope='module')
def client(folder, files):
  with served(open_index(folder), files=files) as (client, _):
    yield client


def test_what_counts_as_a_file(files, folder):
  assert len(files) == 4
  assert files.get('v3').media_type == 'video/mp4'
  assert files.get('v4').path == folder / 'videos/below/v4.avi'
  # A link out of the folder, and files that are not videos, are left out.
  assert files.get('v5') is files.get('v8') is files.get('v1') is None
  gone = folder / 'videos/gone.mp4'
  gone.touch()
  found = VideoFiles(folder / 'videos', {'gone': gone})
  assert found.get('gone')
  gone.unlink()
  assert found.get('gone') is None
  assert not VideoFiles()


def test_a_file_and_parts_of_it(client, folder):
  content = (folder / 'videos/v3.mp4').read_bytes()
  whole = client.get('/videos/v3')
  assert whole.status_code == 200
  assert whole.content == content
  assert whole.headers['content-type'] == 'video/mp4'
  assert whole.headers['accept-ranges'] == 'bytes'
  size = len(content)
  for given, expected in (
    ('0-0', content[:1]),
    ('100-299', content[100:300]),
    (f'{size - 5}-', content[-5:]),
    ('-7', content[-7:]),
    (f'50-{10 * size}', content[50:]),
  ):
    part = client.get('/videos/v3', headers={'range': f'bytes={given}'})
    assert part.status_code == 206
    assert part.content == expected
    assert part.headers['content-range'].endswith(f'/{size}')
  behind = client.get('/videos/v3', headers={'range': f'bytes={size}-'})
  assert behind.status_code == 416
  assert behind.headers['content-range'] == f'bytes */{size}'
  assert f'{size:,} bytes' in behind.json()['error']
  many = 'bytes=' + ','.join(f'{i}-{i}' for i in range(0, 400, 2))
  for ignored in ('items=0-1', 'bytes=abc', 'bytes=5-4', many):
    answer = client.get('/videos/v3', headers={'range': ignored})
    assert answer.status_code == 200
    assert answer.content == content
  empty = client.get('/videos/v7')
  assert (empty.status_code, empty.content) == (200, b'')


def test_many_parts_of_a_file(client, folder):
  content = (folder / 'videos/v3.mp4').read_bytes()
  answer = client.get('/videos/v3', headers={'range': 'bytes=0-2,7-9,-4'})
  assert answer.status_code == 206
  kind = answer.headers['content-type']
  assert kind.startswith('multipart/byteranges; boundary=')
  message = email.message_from_bytes(
    b'Content-Type: ' + kind.encode() + b'\r\n\r\n' + answer.content
  )
  size, found = len(content), message.get_payload()
  assert [part.get_payload(decode=True) for part in found] == [
    content[:3],
    content[7:10],
    content[-4:],
  ]
  assert found[1]['content-range'] == f'bytes 7-9/{size}'
  assert found[1].get_content_type() == 'video/mp4'


def test_conditions(client):
  whole = client.get('/videos/v3')
  tag, date = whole.headers['etag'], whole.headers['last-modified']
  past = 'Sat, 01 Jan 2000 00:00:00 GMT'
  for headers, status in (
    ({'if-none-match': tag}, 304),
    ({'if-none-match': f'"x", W/{tag}'}, 304),
    ({'if-none-match': '*'}, 304),
    ({'if-none-match': '"x"', 'if-modified-since': date}, 200),
    ({'if-modified-since': date}, 304),
    ({'if-modified-since': past}, 200),
    ({'if-modified-since': 'yesterday'}, 200),
    ({'if-match': tag}, 200),
    ({'if-match': '"x"'}, 412),
    ({'if-unmodified-since': past}, 412),
    ({'if-range': tag, 'range': 'bytes=0-1'}, 206),
    ({'if-range': date, 'range': 'bytes=0-1'}, 206),
    ({'if-range': '"x"', 'range': 'bytes=0-1'}, 200),
  ):
    answer = client.get('/videos/v3', headers=headers)
    assert answer.status_code == status, headers
    assert status != 304 or (answer.content, answer.headers['etag']) == (
      b'',
      tag,
    )


def test_head_of_files(client):
  for path in ('/videos/v3', '/thumbnails/v3?t=1', '/videos/v99'):
    whole, head = client.get(path), client.head(path)
    assert head.status_code == whole.status_code
    assert head.content == b''
    for name in ('content-length', 'content-type', 'etag', 'accept-ranges'):
      assert head.headers.get(name) == whole.headers.get(name)
  # Ranges work only with GET.
  part = client.head('/videos/v3', headers={'range': 'bytes=0-1'})
  assert part.status_code == 200


@pytest.mark.parametrize('what', ['file', 'folder', 'root', 'pipe'])
def test_what_becomes_a_link_is_no_file_any_more(what, folder, tmp_path):
  root, other = tmp_path / 'videos', tmp_path / 'other'
  for place in (root / 'below', other / 'below'):
    place.mkdir(parents=True)
    (place / 'v3.mp4').write_bytes(place.parent.name.encode())
  path = root / 'below/v3.mp4'
  files = VideoFiles(root, {'v3': path})
  with served(open_index(folder), files=files, ready=False) as (client, _):
    assert client.get('/videos/v3').content == b'videos'
    swapped = {'folder': root / 'below', 'root': root}.get(what, path)
    swapped.rename(tmp_path / 'former')
    if what == 'pipe':
      os.mkfifo(path)
    else:
      swapped.symlink_to(other / swapped.relative_to(root))
    for start in ('/videos/', '/thumbnails/'):
      answer = client.get(f'{start}v3')
      assert answer.status_code == 404
      assert 'no file of the video' in answer.json()['error']
    assert client.get('/api/videos/v3').json()['file'] is None
    # A file that is restored is served again.
    swapped.unlink()
    (tmp_path / 'former').rename(swapped)
    assert client.get('/videos/v3').content == b'videos'


def test_what_cannot_be_opened_for_now_is_not_gone(files, monkeypatch):
  def full(*_, **__):
    raise OSError(errno.EMFILE, 'Too many open files')

  monkeypatch.setattr(os, 'open', full)
  with pytest.raises(OSError, match='Too many'):
    files.get('v3')


def test_ids_may_be_composed_or_not(tmp_path):
  for name in ('caf\u00e9', 'the\u0301'):
    (tmp_path / f'{name}.mp4').write_bytes(name.encode())
  found = {path.stem: path for path in tmp_path.glob('*.mp4')}
  place, videos = tmp_path / 'index', videos_of(made(2, 3))
  named = dataclasses.replace(videos, ids=['cafe\u0301', 'th\u00e9'])
  writer.create(place, retriever(), named)
  files = VideoFiles(tmp_path, found)
  with served(open_index(tmp_path), files=files, ready=False) as (client, _):
    for name in named.ids:
      for form in ('NFC', 'NFD'):
        path = quote(unicodedata.normalize(form, name))
        found = client.get(f'/api/videos/{path}').json()['video']
        assert found == unicodedata.normalize('NFC', name)
        content = client.get(f'/videos/{path}').content.decode()
        assert unicodedata.normalize('NFC', content) == (
          unicodedata.normalize('NFC', name)
        )
    assert client.get('/videos/%ED%A0%80').status_code == 404
    assert list(client.get('/api/videos/%FF/similar').json()) == ['error']


@pytest.mark.parametrize(
  'path',
  [
    '..%2Fsecret.txt',
    '..%2f..%2f..%2fetc%2fpasswd',
    '%2e%2e/secret.txt',
    '%2Fetc%2Fpasswd',
    '//etc/passwd',
    'v3%00.mp4',
    'v3.mp4',
    'below%2Fv4',
    'v5',
    'v8',
    'secret',
  ],
)
def test_nothing_else_is_served(path, client):
  for start in ('/videos/', '/thumbnails/'):
    answer = client.get(start + path)
    assert answer.status_code == 404
    assert list(answer.json()) == ['error']


def test_hits_name_their_files(client):
  hits = client.post('/api/search', json={'query': 'x', 'k': 45}).json()['hits']
  found = {hit['video']: hit['file'] for hit in hits if hit['file']}
  assert set(found) == {'v3', 'v4', 'v6', 'v7'}
  assert found['v4'] == {
    'url': '/videos/v4',
    'media_type': 'video/x-msvideo',
    'thumbnail': '/thumbnails/v4',
    'strip': '/strips/v4',
    'converted': '/converted/v4',
    'playing': '/api/videos/v4/playing',
    'clip': '/clips/v4',
  }
  assert client.get('/api/videos/v3').json()['file']['url'] == '/videos/v3'


@pytest.mark.parametrize('video', ['v3', 'v4'])
def test_thumbnails_show_their_time(video, client):
  # The left half gets brighter by 8 every tenth of a second.
  for seconds, level in (
    (0, 10),
    (0.5, 50),
    (1.25, 114),
    (2.5, 210),
    (99, 242),
  ):
    answer = client.get(f'/thumbnails/{video}?t={seconds}')
    assert answer.headers['content-type'] == 'image/jpeg'
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert picture.shape == (213, 320, 3)
    assert picture[:, :150].mean() == pytest.approx(level, abs=12)
  for t in ('-1', 'nan', 'inf', '1e9', 'x'):
    answer = client.get(f'/thumbnails/{video}?t={t}')
    assert answer.status_code == 400
    assert answer.json()['error'].startswith('t: ')


def test_files_that_lie_or_start_late(tmp_path):
  videos = tmp_path / 'videos'
  videos.mkdir()
  turn(make_video(videos / 'v1.mp4', pixel=2.0))
  make_video(videos / 'v2.mkv', times=range(100, 120))
  make_video(videos / 'v3.mp4')
  make_video(videos / 'v4.mp4', size=(2000, 2))
  (videos / 'v5.mp4').write_bytes(b'no video')
  found = {path.stem: path for path in videos.iterdir()}
  files = VideoFiles(videos, found)
  with served(open_index(tmp_path), files=files) as (client, _):
    for video, shape in (('v1', (960, 320)), ('v4', (1280, 1))):
      answer = client.get(f'/thumbnails/{video}')
      picture = Image.open(io.BytesIO(answer.content))
      assert (picture.height, picture.width) == shape
    answer = client.get('/thumbnails/v2?t=1.25')
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert picture[:, :150].mean() == pytest.approx(10 + 8 * 12, abs=5)
    for video, start in (('v1', 0.0), ('v2', 10.0), ('v3', 0.0)):
      path = f'/api/videos/{video}/playing'
      assert client.get(path).json()['start'] == start
    for video in ('v5', 'v6', 'v99'):
      answer = client.get(f'/api/videos/{video}/playing')
      assert answer.status_code == 404
      assert str(tmp_path) not in answer.json()['error']
    page = client.get('/page/player.js').text
  assert 'currentTime = seconds + this.origin' in page


def test_what_gives_no_picture(client, monkeypatch):
  for video in ('v6', 'v7'):
    answer = client.get(f'/thumbnails/{video}')
    assert answer.status_code == 404
    assert f'{video}.mp4 gives no picture' in answer.json()['error']
  former = builtins.__import__

  def missing(name, *arguments):
    if name == 'av':
      raise ModuleNotFoundError(name)
    return former(name, *arguments)

  monkeypatch.setattr(builtins, '__import__', missing)
  answer = client.get('/thumbnails/v3?t=2')
  assert answer.status_code == 404
  assert 'dreamprvr_jax[videos]' in answer.json()['error']


def test_pictures_are_kept_within_bounds(folder):
  videos = folder / 'videos'
  file = VideoFile(videos / 'v3.mp4', 'video/mp4', videos)
  size = len(Thumbnails(waiting=1, kept_bytes=0).picture(file, 1))
  kept = Thumbnails(waiting=1, kept_bytes=3 * size)
  first = kept.picture(file, 0)
  assert kept.picture(file, 0.01) is first
  for second in (1, 2, 3, 2, 1):
    kept.picture(file, second)
    assert sum(map(len, kept._kept.values())) == kept._size <= 3 * size
  assert kept.picture(file, 0) is not first
  with kept.turn(), pytest.raises(Busy, match='are waiting'), kept.turn():
    pass
  damaged = VideoFile(videos / 'v6.mp4', 'video/mp4', videos)
  broken = Thumbnails(waiting=1, kept_bytes=0)
  for _ in range(3):
    with pytest.raises(UserError, match='gives no picture'):
      broken.picture(damaged, 0)


def test_busy_pictures(folder, files):
  limits = Limits(pictures=1)
  with served(open_index(folder), files=files, limits=limits) as (client, s):
    s.thumbnails._waiting.acquire()
    answer = client.get('/thumbnails/v3')
    assert answer.status_code == 503
    assert answer.headers['retry-after'] == '1'


def test_slow_pictures_leave_threads_for_others(folder, files):
  """More requests than threads ask for one slow file."""
  go = threading.Event()
  with (
    served(open_index(folder), files=files) as (client, s),
    concurrent.futures.ThreadPoolExecutor(51) as pool,
  ):
    picture, s.thumbnails.picture = s.thumbnails.picture, None
    s.thumbnails.picture = lambda *args: go.wait(60) and picture(*args)
    slow = [pool.submit(client.get, '/thumbnails/v3') for _ in range(50)]
    try:
      answer = pool.submit(client.get, '/videos/v4').result(timeout=30)
      assert answer.status_code == 200
    finally:
      go.set()
    assert {one.result().status_code for one in slow} == {200}
