"""Clips that are saved as files of their own."""

import math

import av
import numpy as np
import pytest

from dreamprvr_jax.archive.videos import cutting
from dreamprvr_jax.archive.videos.cutting import save_clip
from dreamprvr_jax.archive.videos.files import VideoError, opened
from dreamprvr_jax.archive.videos.presentation import Presentation
from dreamprvr_jax.errors import UserError
from tests.helpers.videos import make_video, turn

STEP = 0.1
# Second of a key frame of videos with a key frame for five pictures.
KEY = 0.8


def played(path):
  """Returns (bright, start, end) of the pictures of a file, upright, and the
  seconds of its sound."""
  with opened(str(path)) as (container, stream):
    pictures = [
      (_brightness(shown.frame), shown.time, shown.until)
      for shown in Presentation(str(path), container, stream).pictures()
    ]
    sound = [
      (s.codec_context.name, float(s.duration * s.time_base))
      for s in container.streams.audio
    ]
  return pictures, sound


def _brightness(frame):
  image = frame.to_ndarray(format='rgb24')
  return image[2:-2, 4 : image.shape[1] // 2 - 4].mean()


def steps_of(pictures):
  """Returns which pictures of `make_video` were found."""
  return [round((bright - 10) / 8) for bright, *_ in pictures]


def is_about(found, expected):
  """Returns whether steps are right; a codec changes the brightness a bit."""
  return len(found) == len(expected) and all(
    abs(a - b) <= 1 for a, b in zip(found, expected, strict=True)
  )


@pytest.mark.parametrize('ending', ['.mp4', '.avi', '.mkv', '.webm', '.mov'])
def test_a_stretch_is_cut_at_the_right_pictures(tmp_path, ending):
  video = make_video(tmp_path / f'v{ending}', key_frames=20)
  saved = save_clip(video, 0.5, 1.2, tmp_path / 'clip.mp4')
  pictures, sound = played(tmp_path / 'clip.mp4')
  assert not saved.copied
  assert (saved.start, saved.end) == pytest.approx((0.5, 1.2))
  assert is_about(steps_of(pictures), [5, 6, 7, 8, 9, 10, 11])
  assert pictures[0][1] == 0
  assert pictures[-1][2] == pytest.approx(0.7, abs=STEP)
  assert not sound


@pytest.mark.parametrize(
  ('ending', 'key'), [('.mp4', KEY), ('.mkv', KEY), ('.webm', 0.5)]
)
def test_pictures_are_copied_from_a_key_frame_on(tmp_path, ending, key):
  video = make_video(tmp_path / f'v{ending}', key_frames=5)
  saved = save_clip(video, key, key + 0.7, tmp_path / 'clip.mp4')
  assert saved.copied
  assert saved.start == pytest.approx(key)
  pictures, _ = played(tmp_path / 'clip.mp4')
  found = steps_of(pictures)
  assert is_about(found[:7], [round(10 * key) + i for i in range(7)])
  # A picture after the end may be needed to decode earlier ones.
  assert len(found) <= 9
  assert pictures[-1][2] == pytest.approx(0.7, abs=2 * STEP)
  packets = lambda path: {bytes(p) for p in av.open(str(path)).demux(video=0)}
  assert packets(tmp_path / 'clip.mp4') <= packets(video)


def test_a_clip_may_begin_earlier_to_be_copied(tmp_path):
  video = make_video(tmp_path / 'v.mp4', key_frames=5)
  exact = save_clip(video, 1.1, 1.4, tmp_path / 'a.mp4')
  early = save_clip(video, 1.1, 1.4, tmp_path / 'b.mp4', early=0.35)
  assert not exact.copied
  assert steps_of(played(tmp_path / 'a.mp4')[0])[0] == 11
  assert early.copied
  assert early.start == pytest.approx(KEY)
  assert steps_of(played(tmp_path / 'b.mp4')[0])[0] == 8


@pytest.mark.parametrize('start', [KEY, 1.04])
def test_sound_goes_along(tmp_path, start):
  video = make_video(
    tmp_path / 'v.mp4', pictures=40, key_frames=5, sound=(0, 4)
  )
  saved = save_clip(video, start, start + 2, tmp_path / 'clip.mp4')
  assert saved.copied == (start == KEY)
  pictures, ((kind, seconds),) = played(tmp_path / 'clip.mp4')
  assert kind == 'aac'
  assert seconds == pytest.approx(2, abs=0.05)
  assert pictures[-1][2] == pytest.approx(2, abs=0.15)


def test_sound_that_few_players_know_is_encoded(tmp_path):
  video = make_video(tmp_path / 'v.webm', pictures=40, sound=(0, 4))
  save_clip(video, 1.05, 3, tmp_path / 'clip.mp4')
  _, ((kind, seconds),) = played(tmp_path / 'clip.mp4')
  assert kind == 'aac'
  assert seconds == pytest.approx(1.95, abs=0.05)


def test_the_clock_of_a_file_need_not_begin_at_zero(tmp_path):
  late = {'output_ts_offset': '5'}
  video = make_video(
    tmp_path / 'v.mkv', pictures=40, sound=(0, 4), key_frames=7, options=late
  )
  assert av.open(str(video)).start_time > 4_000_000
  for start, copied in ((1.5, False), (0.6, True)):
    saved = save_clip(video, start, start + 1, tmp_path / 'clip.mp4')
    assert saved.copied == copied
    pictures, ((_, seconds),) = played(tmp_path / 'clip.mp4')
    assert steps_of(pictures)[0] == round(start * 10)
    assert seconds == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize('key_frames', [5, 20])
def test_turned_pictures_stay_upright(tmp_path, key_frames):
  video = turn(make_video(tmp_path / 'v.mp4', key_frames=key_frames))
  saved = save_clip(video, KEY, 1.0, tmp_path / 'clip.mp4')
  assert saved.copied == (key_frames == 5)
  with opened(str(tmp_path / 'clip.mp4')) as (container, stream):
    film = Presentation('clip', container, stream)
    first = next(film.pictures()).frame
  turned = first.rotation in (90, -90)
  assert turned == saved.copied
  shape = (first.height, first.width)
  assert shape == ((32, 48) if turned else (48, 32))


def test_sizes_become_even_and_pixels_square(tmp_path):
  video = make_video(
    tmp_path / 'v.avi', size=(33, 35), pixels='yuv444p', codec='ffv1'
  )
  save_clip(video, 0.5, 1.0, tmp_path / 'clip.mp4')
  with opened(str(tmp_path / 'clip.mp4')) as (_, stream):
    codec = stream.codec_context
    assert (codec.height, codec.width) == (32, 34)
    assert (codec.name, codec.pix_fmt) == ('h264', 'yuv420p')
  wide = make_video(tmp_path / 'w.mkv', size=(32, 32), pixel=1.5, key_frames=20)
  save_clip(wide, 0.5, 1.0, tmp_path / 'clip.mp4')
  with opened(str(tmp_path / 'clip.mp4')) as (_, stream):
    codec = stream.codec_context
    assert (codec.height, codec.width) == (32, 48)


def test_pictures_of_uneven_length_keep_their_times(tmp_path):
  times = [0, 1, 2, 7, 8, 13, 14, 30]
  video = make_video(tmp_path / 'v.mkv', pictures=8, times=times, key_frames=20)
  save_clip(video, 0.5, 2.5, tmp_path / 'clip.mp4')
  pictures, _ = played(tmp_path / 'clip.mp4')
  assert steps_of(pictures) == [2, 3, 4, 5, 6]
  found = [time for _, time, _ in pictures]
  assert found == pytest.approx([0, 0.2, 0.3, 0.8, 0.9], abs=0.01)


def test_the_end_may_be_beyond_that_of_the_video(tmp_path):
  video = make_video(tmp_path / 'v.mp4')
  saved = save_clip(video, 1.55, 99, tmp_path / 'clip.mp4')
  assert saved.end == pytest.approx(2.0)
  assert steps_of(played(tmp_path / 'clip.mp4')[0]) == [15, 16, 17, 18, 19]
  with pytest.raises(VideoError, match=r'ends at second 2\.0, before'):
    save_clip(video, 2.5, 3, tmp_path / 'late.mp4')
  assert not (tmp_path / 'late.mp4').exists()


@pytest.mark.parametrize(
  ('start', 'end'), [(1, 1), (2, 1), (-1, 1), (math.nan, 1), (0, math.inf)]
)
def test_an_impossible_stretch_is_refused(tmp_path, start, end):
  with pytest.raises(UserError, match='is empty; give the second'):
    save_clip(make_video(tmp_path / 'v.mp4'), start, end, tmp_path / 'c.mp4')


def test_a_clip_is_an_mp4_file(tmp_path):
  with pytest.raises(UserError, match=r'clip\.avi: a clip is written as MP4'):
    save_clip('v.mp4', 0, 1, tmp_path / 'clip.avi')


def test_what_is_no_video_is_named(tmp_path):
  (tmp_path / 'v.mp4').write_bytes(b'no video at all')
  with pytest.raises(VideoError, match='cannot be decoded'):
    save_clip(tmp_path / 'v.mp4', 0, 1, tmp_path / 'clip.mp4')
  assert [p.name for p in tmp_path.iterdir()] == ['v.mp4']


def test_a_file_that_cannot_be_written_is_no_fault_of_the_video(
  tmp_path, monkeypatch
):
  video = make_video(tmp_path / 'v.mp4')
  (tmp_path / 'clip.mp4').write_bytes(b'before')

  def fail(self, packet):
    raise av.error.OSError(28, 'No space left on device', 'x')

  class Full:
    def __init__(self, out):
      self._out = out

    def __getattr__(self, name):
      return getattr(self._out, name)

    mux = fail

  real = av.open
  monkeypatch.setattr(
    av,
    'open',
    lambda *a, **k: Full(real(*a, **k)) if 'w' in a else real(*a, **k),
  )
  with pytest.raises(OSError, match='No space left') as found:
    save_clip(video, 0.5, 1, tmp_path / 'clip.mp4')
  assert found.value.filename == str(tmp_path / 'clip.mp4')
  assert (tmp_path / 'clip.mp4').read_bytes() == b'before'
  assert sorted(p.name for p in tmp_path.iterdir()) == ['clip.mp4', 'v.mp4']


def test_without_x264_another_encoder_is_used(tmp_path, monkeypatch):
  monkeypatch.setattr(av, 'codecs_available', av.codecs_available - {'libx264'})
  video = make_video(tmp_path / 'v.avi')
  save_clip(video, 0.5, 1.0, tmp_path / 'clip.mp4')
  pictures, _ = played(tmp_path / 'clip.mp4')
  assert is_about(steps_of(pictures), [5, 6, 7, 8, 9])
  with opened(str(tmp_path / 'clip.mp4')) as (_, stream):
    assert stream.codec_context.name == 'mpeg4'


def test_colours_stay(tmp_path):
  video = make_video(tmp_path / 'v.mkv', key_frames=20)
  save_clip(video, 0.5, 1.0, tmp_path / 'clip.mp4')
  first = lambda path, place: next(
    frame.to_ndarray(format='rgb24')
    for i, frame in enumerate(av.open(str(path)).decode(video=0))
    if i == place
  )
  before = first(video, 5).astype(float)
  after = first(tmp_path / 'clip.mp4', 0).astype(float)
  assert np.abs(before - after).mean() < 3
  assert cutting.ENDING == '.mp4'


def test_pictures_may_have_to_be_copied_or_encoded(tmp_path):
  path, target = make_video(tmp_path / 'a.mp4'), tmp_path / 'b.mp4'
  assert save_clip(path, 0.0, 9.0, target, copies=True).copied
  assert not save_clip(path, 0.0, 9.0, target, copies=False).copied
  with pytest.raises(VideoError, match='have to be encoded again'):
    save_clip(path, 0.3, 9.0, target, copies=True)


@pytest.mark.parametrize(
  ('lines', 'size'), [(0, (32, 48)), (16, (16, 24)), (720, (32, 48))]
)
def test_pictures_are_made_smaller(tmp_path, lines, size):
  path, target = make_video(tmp_path / 'a.mp4'), tmp_path / 'b.mp4'
  save_clip(path, 0.0, 1.0, target, copies=False, lines=lines)
  with opened(str(target)) as (_, stream):
    assert (stream.height, stream.width) == size
