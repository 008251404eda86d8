"""Pictures and samples of clips to search by."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from dreamprvr_jax.archive.videos import stills
from dreamprvr_jax.archive.videos.files import VideoError
from dreamprvr_jax.archive.videos.frames import Video
from dreamprvr_jax.archive.videos.stills import read_still, sample_clip
from dreamprvr_jax.errors import UserError
from tests.helpers.videos import make_video

WIDE = np.zeros((4, 6, 3), np.uint8)
WIDE[:, 3:] = (200, 20, 20)


def saved(image, ending='PNG', **options):
  file = io.BytesIO()
  image.save(file, ending, **options)
  return file.getvalue()


@pytest.mark.parametrize(
  'ending', ['PNG', 'BMP', 'TIFF', 'WEBP', 'JPEG', 'GIF']
)
def test_usual_kinds(tmp_path, ending):
  path = tmp_path / 'picture'
  path.write_bytes(saved(Image.fromarray(WIDE), ending))
  found = read_still(path, '--image')
  assert found.shape == WIDE.shape
  assert found.dtype == np.uint8
  assert found[1, 5, 0] > 150
  assert found[1, 0].max() < 60
  np.testing.assert_array_equal(found, read_still(path.read_bytes(), 'it'))


def test_a_photo_is_upright():
  exif = Image.Exif()
  exif[0x0112] = 6
  found = read_still(saved(Image.fromarray(WIDE), 'JPEG', exif=exif), 'it')
  assert found.shape == (6, 4, 3)


def test_see_through_parts_are_white():
  clear = np.zeros((2, 2, 4), np.uint8)
  clear[0] = (10, 20, 30, 255)
  found = read_still(saved(Image.fromarray(clear)), 'it')
  np.testing.assert_array_equal(found[0, 0], [10, 20, 30])
  np.testing.assert_array_equal(found[1, 0], [255, 255, 255])
  palette = Image.fromarray(WIDE).quantize(4)
  assert read_still(saved(palette), 'it').shape == WIDE.shape


def test_grey_pictures_of_16_bits_keep_their_range():
  grey = np.array([[0, 65535], [32896, 257]], np.uint16)
  found = read_still(saved(Image.fromarray(grey)), 'it')
  np.testing.assert_array_equal(found[..., 0], [[0, 255], [128, 1]])


@pytest.mark.parametrize(
  ('content', 'problem'),
  [
    (b'', 'is no picture; give one of the kinds JPEG, PNG'),
    (b'a text', 'is no picture'),
    (saved(Image.effect_noise((90, 90), 9))[:900], 'cannot be read'),
    (saved(Image.effect_noise((90, 90), 9), 'JPEG')[:900], 'cannot be read'),
    (b'%!PS-Adobe-3.0 EPSF-3.0\n', 'is no picture'),
  ],
)
def test_what_is_no_picture_is_refused(content, problem):
  with pytest.raises(UserError, match=problem) as found:
    read_still(content, '--image=x.png')
  assert str(found.value).startswith('--image=x.png: the ')


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(UserError, match='it: there is no such file'):
    read_still(tmp_path / 'none.png', 'it')


def test_a_huge_picture_is_refused(monkeypatch):
  monkeypatch.setattr(stills, 'MAX_PIXELS', 20)
  with pytest.raises(UserError, match='has 6 x 4 pixels, more than the 20'):
    read_still(saved(Image.fromarray(WIDE)), 'it')


def same(height, width):
  return height, width


@pytest.mark.parametrize('ending', ['.mp4', '.avi', '.mkv'])
def test_samples_are_those_of_the_whole_file(tmp_path, ending):
  path = make_video(tmp_path / f'v{ending}', pictures=50, key_frames=10)
  whole = [s.image for s in Video(str(path), 4, same).samples()]
  found = sample_clip(path, 1, 3.2, 4, same)
  # Middles are at 1.125, 1.375, ..., 3.125.
  np.testing.assert_array_equal(found, whole[4:13])
  np.testing.assert_array_equal(sample_clip(path, 0, math.inf, 4, same), whole)


def test_a_long_clip_is_sampled_more_rarely(tmp_path, monkeypatch):
  path = make_video(tmp_path / 'v.mp4', pictures=50)
  monkeypatch.setattr(stills, '_SAMPLES', 4)
  whole = [s.image for s in Video(str(path), 2, same).samples()]
  found = sample_clip(path, 0, math.inf, 2, same)
  np.testing.assert_array_equal(found, whole[::3])


def test_a_short_clip_gives_one_picture(tmp_path):
  path = make_video(tmp_path / 'v.mp4', pictures=30, key_frames=30)
  (found,) = sample_clip(path, 1.51, 1.56, 2, same)
  np.testing.assert_array_equal(found, sample_clip(path, 1.5, 1.6, 10, same)[0])


def test_impossible_clips_are_refused(tmp_path):
  path = make_video(tmp_path / 'v.mp4', pictures=20)
  with pytest.raises(UserError, match='is empty'):
    sample_clip(path, 2, 1, 2, same)
  with pytest.raises(VideoError, match='no picture from second 7 on'):
    sample_clip(path, 7, 9, 2, same)
