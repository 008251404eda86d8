"""Extraction and thumbnails use the same clock as a player."""

import pathlib
import struct

import numpy as np
import pytest

from dreamprvr_jax.archive.videos import presentation
from dreamprvr_jax.archive.videos.files import VideoError, opened
from dreamprvr_jax.archive.videos.frames import Video
from dreamprvr_jax.archive.videos.presentation import Presentation, picture_at
from tests.helpers.videos import CODECS, make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')


def same(height, width):
  return height, width


def decode(path, fps=2.0):
  video = Video(path, fps, same)
  return list(video.samples()), video.duration


def start_of(path):
  with opened(path) as (container, stream):
    return Presentation(path, container, stream).start()


def level(image):
  """Returns the number of a picture; see `tests.helpers.videos.picture`."""
  return (image[8:24, 4:12].mean() - 10) / 8


def later(first, count=20):
  return range(first, first + count)


FRAGMENTS = {'movflags': 'frag_keyframe+empty_moov+delay_moov'}


# The columns are the file, its options, the time of second 0 on its own clock,
# its duration, and the second at which its first picture appears.
@pytest.mark.parametrize(
  ('name', 'made', 'start', 'duration', 'first'),
  [
    ('plain.mp4', {}, 0, 2, 0),
    # These are later parts of a split file.
    ('part.mkv', {'times': later(100)}, 10, 2, 0),
    ('part.webm', {'times': later(100), 'sound': (10, 12)}, 10, 2, 0),
    ('late.ts', {'times': later(900_001)}, 90_000.1, 2, 0),
    ('delayed.mp4', {'times': later(10)}, 1, 2, 0),
    # Sound starts before the pictures.
    ('delayed.mkv', {'times': later(10), 'sound': (0, 3)}, 0, 3, 1),
    ('delayed.webm', {'times': later(10), 'sound': (0, 3)}, 0, 3, 1),
    ('sound.mp4', {'times': later(10), 'sound': (0, 3)}, 0, 3, 1),
    # Sound continues after the pictures.
    ('long.mp4', {'sound': (0, 6)}, 0, 2, 0),
    ('long.mkv', {'sound': (0, 6)}, 0, 2, 0),
    ('live.webm', {'options': {'live': '1'}}, 0, 2, 0),
    ('live.mkv', {'options': {'live': '1'}, 'sound': (0, 2)}, 0, 2, 0),
    ('parts.mp4', {'options': FRAGMENTS, 'sound': (0, 2)}, 0, 2, 0),
  ],
)
def test_second_0_is_where_a_player_begins(
  name, made, start, duration, first, tmp_path
):
  codec = CODECS.get(pathlib.Path(name).suffix, 'mpeg2video')
  path = str(make_video(tmp_path / name, codec=codec, **made))
  # An audio encoder may start a little earlier.
  assert start_of(path) == pytest.approx(start, abs=0.03)
  samples, lasts = decode(path)
  assert lasts == pytest.approx(duration, abs=0.03)
  assert [x.time for x in samples] == [
    0.25 + i / 2 for i in range(len(samples))
  ]
  for sample in samples:
    shown = max(10 * (sample.time - first), 0) // 1
    assert level(sample.image) == pytest.approx(shown, abs=0.7)
    image = picture_at(path, sample.time, same)
    np.testing.assert_array_equal(image, sample.image)
  assert level(picture_at(path, 0, same)) == pytest.approx(0, abs=0.7)
  last = picture_at(path, 1e5, same)
  assert level(last) == pytest.approx(19, abs=0.7)


@pytest.mark.parametrize('ending', ['.mp4', '.mov'])
def test_a_cut_without_encoding_is_whole(ending, tmp_path):
  # 3 of the 8 seconds are shown; the only key frame is hidden.
  path = make_video(
    tmp_path / f'cut{ending}',
    pictures=80,
    times=range(-50, 30),
    key_frames=1000,
    codec='libx264',
  )
  samples, duration = decode(path, 5.0)
  assert duration == pytest.approx(3, abs=0.01)
  assert len(samples) == 15
  assert start_of(str(path)) == 0
  for sample in samples:
    image = picture_at(str(path), sample.time, same)
    np.testing.assert_array_equal(image, sample.image)


def test_pictures_far_behind_their_key_frame(tmp_path):
  path = make_video(
    tmp_path / 'a.mp4', pictures=900, rate=30, key_frames=1000, size=(16, 16)
  )
  early = picture_at(str(path), 0.5, same)
  assert early[8, 2].mean() == pytest.approx(10 + 8 * 15, abs=6)
  assert picture_at(str(path), 25, same)[8, 2].mean() > 240


def test_one_picture_takes_no_longer_than_it_may(tmp_path, monkeypatch):
  path = make_video(tmp_path / 'a.mp4')
  monkeypatch.setattr(presentation, '_PATIENCE', -1)
  with pytest.raises(VideoError, match='its key frames are too far apart'):
    picture_at(str(path), 1.5, same)


@pytest.mark.parametrize(
  ('name', 'made', 'said'),
  [
    ('a.mkv', {'sound': (0, 8)}, r'ends after \d.\d of 8.0 seconds'),
    ('a.mkv', {'times': later(100, 80)}, r'ends after \d.\d of 8.0 seconds'),
    (
      'a.mp4',
      {'options': {'movflags': 'faststart'}, 'sound': (0, 8)},
      r'ends after \d.\d of 8.0 seconds|cannot be decoded',
    ),
    ('a.mp4', {'options': FRAGMENTS}, 'ends in the middle of one of its parts'),
  ],
)
def test_what_lacks_its_end_is_refused(name, made, said, tmp_path):
  path = make_video(tmp_path / name, pictures=80, **made)
  raw = path.read_bytes()
  path.write_bytes(raw[: len(raw) * 6 // 10])
  with pytest.raises(VideoError, match=said):
    decode(path)


@pytest.mark.parametrize('stated', [1, 60])
def test_a_whole_file_may_state_a_wrong_length(stated, tmp_path):
  times = [*range(10), *range(20, 60, 4)]
  path = make_video(tmp_path / 'a.mp4', times=times)
  raw = bytearray(path.read_bytes())
  place = raw.index(b'mdhd') + 16
  scale, ticks = struct.unpack('>II', raw[place : place + 8])
  assert ticks / scale == pytest.approx(5.7, abs=1)
  raw[place + 4 : place + 8] = struct.pack('>I', stated * scale)
  path.write_bytes(raw)
  samples, duration = decode(path)
  assert duration == pytest.approx(5.7, abs=0.4)
  # After 2 s there is a picture every 0.4 s.
  assert level(samples[8].image) == pytest.approx(15, abs=0.7)


def test_a_cover_is_no_film(tmp_path):
  av = pytest.importorskip('av')
  path = tmp_path / 'a.mp4'
  with av.open(str(path), 'w') as container:
    cover = container.add_stream('mjpeg', rate=1)
    cover.height, cover.width, cover.pix_fmt = 16, 16, 'yuvj420p'
    cover.disposition = av.stream.Disposition.attached_pic.value
    film = container.add_stream('libx264', rate=10)
    film.height, film.width, film.pix_fmt = 32, 48, 'yuv420p'
    image = av.VideoFrame(16, 16, 'yuvj420p')
    container.mux([*cover.encode(image), *cover.encode(None)])
    for _ in range(20):
      container.mux(film.encode(av.VideoFrame(48, 32, 'yuv420p')))
    container.mux(film.encode(None))
  samples, duration = decode(path)
  assert samples[0].image.shape == (32, 48, 3)
  assert duration == pytest.approx(2, abs=0.01)


def test_an_error_of_the_program_is_none_of_the_file(tmp_path, monkeypatch):
  path = make_video(tmp_path / 'a.mp4')

  def wrong(*_, **_options):
    raise TypeError('a mistake')

  with pytest.raises(TypeError, match='a mistake'):
    list(Video(path, 2.0, wrong).samples())
  monkeypatch.setattr('av.open', wrong)
  with pytest.raises(TypeError, match='a mistake'):
    decode(path)
  with pytest.raises(TypeError, match='a mistake'):
    picture_at(str(path), 1, same)
