"""Pictures of a video at several times."""

import pytest

from dreamprvr_jax.archive.videos import strips
from dreamprvr_jax.archive.videos.files import VideoError
from dreamprvr_jax.archive.videos.presentation import picture_at
from dreamprvr_jax.archive.videos.strips import pictures_at
from tests.helpers.videos import make_video

TIMES = [0.0, 0.31, 0.35, 1.2, 2.5, 2.99, 9.0]


def whole(height, width):
  return height, width


@pytest.mark.parametrize('gap', [0.0, 1.0, 100.0])
@pytest.mark.parametrize('name', ['a.mp4', 'b.avi', 'c.mkv', 'd.webm'])
def test_the_pictures_are_those_of_single_times(
  name, gap, tmp_path, monkeypatch
):
  monkeypatch.setattr(strips, '_GAP', gap)
  path = str(make_video(tmp_path / name, pictures=30))
  found = pictures_at(path, TIMES, whole)
  for seconds, picture in zip(TIMES, found, strict=True):
    expected = picture_at(path, seconds, whole)
    assert (picture == expected).all(), seconds


def test_what_has_no_pictures(tmp_path):
  path = tmp_path / 'a.mp4'
  path.write_bytes(b'no video')
  with pytest.raises(VideoError, match='cannot be decoded'):
    pictures_at(str(path), [0.0], whole)


def test_what_takes_too_long(tmp_path, monkeypatch):
  monkeypatch.setattr(strips, '_PATIENCE', -1.0)
  path = str(make_video(tmp_path / 'a.mp4'))
  with pytest.raises(VideoError, match='too far apart'):
    pictures_at(path, [0.0, 1.0], whole)
