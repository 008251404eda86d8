"""Pictures of a file that is replaced."""

import pytest

from dreamprvr_jax.archive.serving.files import VideoFile
from dreamprvr_jax.archive.serving.thumbnails import Thumbnails
from dreamprvr_jax.errors import UserError
from tests.helpers.videos import make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')


def test_a_picture_is_kept_until_its_file_is_replaced(tmp_path):
  path = tmp_path / 'a.mp4'
  make_video(path, pictures=20)
  file = VideoFile(path, 'video/mp4', tmp_path)
  thumbnails = Thumbnails(waiting=1, kept_bytes=10**6)
  first, strip = thumbnails.picture(file, 0.0), thumbnails.strip(file, 0, 1, 2)
  assert thumbnails.picture(file, 0.0) is first
  assert thumbnails.strip(file, 0, 1, 2) is strip
  make_video(path, pictures=30)
  assert thumbnails.picture(file, 0.0) is not first
  assert thumbnails.strip(file, 0, 1, 2) is not strip
  path.unlink()
  with pytest.raises(UserError, match='cannot be read'):
    thumbnails.picture(file, 0.0)
