"""Which files are opened, and the errors for others."""

import os
import pickle
import struct

import pytest

from dreamprvr_jax.archive.videos import files
from dreamprvr_jax.archive.videos.files import VideoError, opened, shown
from tests.helpers.videos import make_audio, make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')


def refusal(path):
  with pytest.raises(VideoError) as caught, opened(str(path)):
    pass
  # The error also survives pickling, as from another process.
  again = pickle.loads(pickle.dumps(caught.value))
  assert str(again) == str(caught.value) == f'{path} {again.reason}'
  assert again.path == str(path)
  return again.reason


def test_what_is_no_video(tmp_path):
  path = tmp_path / 'a.mp4'
  assert refusal(path) == 'cannot be read (No such file or directory)'
  path.touch()
  assert 'is empty (0 bytes)' in refusal(path)
  path.write_bytes(b'no video')
  assert 'damaged, truncated or no video' in refusal(path)
  assert 'only audio' in refusal(make_audio(path))


@pytest.mark.parametrize('side', [20_000, 60_000])
def test_absurd_sizes_are_refused_before_memory_is_taken(side, tmp_path):
  path = make_video(tmp_path / 'a.avi', codec='rawvideo', pictures=3)
  raw = bytearray(path.read_bytes())
  place = raw.index(b'strf') + 12
  raw[place : place + 8] = struct.pack('<ii', side, side)
  path.write_bytes(raw)
  assert '67,108,864 pixels' in refusal(path)


def test_large_pictures_are_named(tmp_path, monkeypatch):
  path = make_video(tmp_path / 'a.mp4', size=(64, 64))
  with opened(str(path)) as (_, stream):
    assert stream.codec_context.width == 64
  monkeypatch.setattr(files, 'MAX_PIXELS', 4000)
  assert 'claims pictures of 64 x 64 pixels' in refusal(path)


def test_names_that_are_no_text(tmp_path):
  path = os.fsdecode(bytes(tmp_path) + b'/caf\xe9.mp4')
  make_video(tmp_path / 'a.mp4').rename(path)
  with opened(path) as (container, _):
    assert container.duration == 2_000_000
  assert shown(path) == f'{tmp_path}/caf%E9.mp4'
  os.truncate(path, 100)
  sentence = r'/caf%E9\.mp4 cannot be decoded'
  with pytest.raises(VideoError, match=sentence), opened(path):
    pass
  assert shown('größe 50%') == 'größe 50%'


def test_names_inside_that_are_no_text(tmp_path):
  path = make_video(tmp_path / 'a.mkv')
  raw = path.read_bytes()
  assert b'ENCODER' in raw
  path.write_bytes(raw.replace(b'ENCODER', b'ENCOD\xe9R'))
  with opened(str(path)) as (_, stream):
    assert stream.codec_context.width == 48


def test_a_playlist_opens_no_other_file(tmp_path):
  """FFmpeg looks at content: a playlist in the folder could show any video."""
  (tmp_path / 'private').mkdir()
  secret = make_video(tmp_path / 'private' / 'secret.ts', codec='libx264')
  folder = tmp_path / 'shown'
  folder.mkdir()
  (folder / 'list.m3u8').write_text(
    f'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n'
  )
  (folder / 'a.mp4').write_text("ffconcat version 1.0\nfile 'list.m3u8'\n")
  assert 'cannot be decoded' in refusal(folder / 'a.mp4')
