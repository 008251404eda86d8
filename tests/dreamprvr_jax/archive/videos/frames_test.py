"""Decoding real files, good and bad."""

import numpy as np
import pytest

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.videos.files import VideoError
from dreamprvr_jax.archive.videos.frames import Video
from tests.helpers.videos import CODECS, make_audio, make_video, turn

pytest.importorskip('av', reason='videos are decoded with PyAV')


def same(height, width):
  return height, width


def decode(path, fps=2.0, resize=same):
  video = Video(path, fps, resize)
  return list(video.samples()), video.duration


def reason_of(path):
  with pytest.raises(VideoError) as caught:
    decode(path)
  assert str(path) in str(caught.value)
  return caught.value.reason


@pytest.mark.parametrize('ending', CODECS)
def test_samples_are_the_pictures_shown_in_the_middle(ending, tmp_path):
  samples, duration = decode(make_video(tmp_path / f'a{ending}'))
  assert duration == pytest.approx(2, abs=0.01)
  assert [sample.time for sample in samples] == [0.25, 0.75, 1.25, 1.75]
  for sample in samples:
    assert sample.image.shape == (32, 48, 3)
    assert sample.image.dtype == np.uint8
    # Picture time * rate is shown, and each is brighter by 8.
    bright = 10 + 8 * int(sample.time * 10)
    assert sample.image[8:24, 4:12].mean() == pytest.approx(bright, abs=4)
    red = sample.image[8:24, 28:44].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(red, (220, 0, 0), atol=12)


@pytest.mark.parametrize('fps', [0.3, 3, 20])
def test_the_rate_is_that_of_presentation(fps, tmp_path):
  samples, duration = decode(make_video(tmp_path / 'a.mp4'), fps)
  assert len(samples) == max(round(duration * fps), 1)


def test_a_picture_stays_until_the_next(tmp_path):
  path = make_video(tmp_path / 'a.mkv', pictures=4, times=[0, 1, 30, 31])
  samples, duration = decode(path)
  assert duration == pytest.approx(3.2, abs=0.01)
  assert len(samples) == 6
  for sample in samples:
    np.testing.assert_allclose(sample.image[16, 8], 18, atol=4)


def test_one_picture_is_enough(tmp_path):
  samples, duration = decode(make_video(tmp_path / 'a.mp4', pictures=1))
  assert len(samples) == 1
  assert 0 < samples[0].time < duration <= 0.1


@pytest.mark.parametrize(
  ('codec', 'pixels'), [('libx264', 'yuv444p10le'), ('ffv1', 'gray')]
)
def test_other_pixel_formats(codec, pixels, tmp_path):
  path = make_video(tmp_path / 'a.mkv', codec=codec, pixels=pixels)
  samples, _ = decode(path)
  assert len(samples) == 4
  np.testing.assert_allclose(samples[0].image[16, 8], 26, atol=4)


def test_pictures_are_upright(tmp_path):
  asked = []

  def resize(height, width):
    asked.append((height, width))
    return 24, 16

  path = turn(make_video(tmp_path / 'a.mp4'))
  samples, _ = decode(path, resize=resize)
  assert asked == [(48, 32)]
  image = samples[0].image
  assert image.shape == (24, 16, 3)
  # After a clockwise turn the left half is on top.
  np.testing.assert_allclose(image[4, 8], 26, atol=8)
  np.testing.assert_allclose(image[20, 8], (220, 0, 0), atol=12)


def test_no_video(tmp_path):
  empty = tmp_path / 'empty.mp4'
  empty.touch()
  assert 'is empty (0 bytes)' in reason_of(empty)
  text = tmp_path / 'text.mp4'
  text.write_text('no video at all\n' * 50)
  assert 'cannot be decoded' in reason_of(text)
  assert 'only audio' in reason_of(make_audio(tmp_path / 'sound.mp4'))
  assert 'No such file' in reason_of(tmp_path / 'nowhere.mp4')


@pytest.mark.parametrize('ending', CODECS)
def test_truncated(ending, tmp_path):
  path = make_video(tmp_path / f'a{ending}', pictures=80)
  raw = path.read_bytes()
  path.write_bytes(raw[: len(raw) // 2])
  assert reason_of(path)
  path.write_bytes(raw[:40])
  assert reason_of(path)


@pytest.mark.parametrize('ending', ['.avi', '.webm'])
def test_the_end_is_missing(ending, tmp_path):
  path = make_video(tmp_path / f'a{ending}', pictures=80)
  raw = path.read_bytes()
  path.write_bytes(raw[: len(raw) * 3 // 4])
  assert 'of 8.0 seconds: it is truncated' in reason_of(path)


def test_a_damaged_stretch_is_passed_over_or_refused(tmp_path):
  path = make_video(
    tmp_path / 'a.avi', pictures=80, codec='mjpeg', pixels='yuvj420p'
  )
  raw = bytearray(path.read_bytes())
  middle = len(raw) // 2
  raw[middle : middle + 100] = bytes(100)
  path.write_bytes(raw)
  samples, duration = decode(path)
  assert len(samples) == 16
  assert duration == pytest.approx(8, abs=0.2)


def test_bad_rate(tmp_path):
  with pytest.raises(DataError, match='fps=0 must be above 0'):
    Video(tmp_path, 0, same)
