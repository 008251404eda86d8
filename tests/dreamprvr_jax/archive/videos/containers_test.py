"""Containers by the endings of names: which are taken, and which are read."""

import pytest

from dreamprvr_jax.archive.videos import containers
from dreamprvr_jax.archive.videos.files import VideoError, opened
from dreamprvr_jax.archive.videos.frames import Video
from tests.helpers.videos import make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')
# Ending -> codec that can be written there.
WRITTEN = {
  '.m4v': 'libx264',
  '.ts': 'mpeg2video',
  '.mts': 'libx264',
  '.m2ts': 'libx264',
  '.mpg': 'mpeg1video',
  '.vob': 'mpeg2video',
  '.wmv': 'wmv2',
  '.flv': 'flv1',
  '.3gp': 'mpeg4',
  '.gif': 'gif',
  '.mxf': 'mpeg2video',
  '.rm': 'rv10',
  '.m2v': 'mpeg2video',
  '.nut': 'mpeg4',
  '.h264': 'libx264',
}


@pytest.mark.parametrize('ending', WRITTEN)
def test_containers_are_read(ending, tmp_path):
  path = make_video(
    tmp_path / f'a{ending}',
    pictures=50,
    rate=25,
    size=(96, 128),
    codec=WRITTEN[ending],
    pixels='rgb8' if ending == '.gif' else 'yuv420p',
  )
  assert containers.is_video(path)
  video = Video(str(path), 2.0, lambda height, width: (height, width))
  samples = list(video.samples())
  assert len(samples) == 4
  assert samples[0].image.shape == (96, 128, 3)
  assert video.duration == pytest.approx(2.0, abs=0.15)


def test_every_ending_has_a_format_that_the_library_knows():
  import av

  known = {part for name in av.formats_available for part in name.split(',')}
  for name in (*containers.CONTAINERS, *containers.RARE):
    assert name in known


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('a.mp4', b'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/x.ts\n'),
    ('a.mpg', b"ffconcat version 1.0\nfile '/etc/hostname'\n"),
    ('a.ogv', b'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n'),
  ],
)
def test_playlists_and_texts_are_refused_under_any_name(
  name, content, tmp_path
):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(VideoError), opened(str(tmp_path / name)):
    pass


def test_source_code_is_no_transport_stream(tmp_path):
  code = tmp_path / 'page.ts'
  code.write_text('export const answer = 42;\n' * 40)
  assert not containers.is_video(code)
  stream = make_video(tmp_path / 'film.ts', codec='mpeg2video', rate=25)
  assert containers.is_video(stream)
  camera = tmp_path / 'film.mts'
  camera.write_bytes((b'\0\0\0\0\x47' + bytes(187)) * 3)
  assert containers.is_video(camera)


def test_what_looks_like_media():
  for name in ('a.JPG', 'a.mp3', 'a.m3u8', 'a.heic', 'a.mp4.part'):
    assert containers.looks_like_media(name), name
  for name in ('a.txt', 'a.jsonl', 'a.srt', 'a', 'a.py'):
    assert not containers.looks_like_media(name), name
