"""Pictures are upright and have the intended aspect ratio."""

import numpy as np
import pytest

from dreamprvr_jax.archive.videos.frames import Video
from dreamprvr_jax.archive.videos.presentation import picture_at
from tests.helpers.videos import make_video, turn

pytest.importorskip('av', reason='videos are decoded with PyAV')


def same(height, width):
  return height, width


def corner(image, down, right):
  """Returns the mean colour of a quarter of a picture."""
  height, width = image.shape[0] // 2, image.shape[1] // 2
  part = image[down * height :, right * width :][:height, :width]
  return part.reshape(-1, 3).mean(axis=0)


@pytest.mark.parametrize(
  ('matrix', 'red'),
  [
    ((1, 0, 0, 1), 'right'),
    ((0, 1, -1, 0), 'bottom'),
    ((-1, 0, 0, -1), 'left'),
    ((0, -1, 1, 0), 'top'),
    # Pictures are mirrored, turned upside down, or both with a quarter turn.
    ((-1, 0, 0, 1), 'left'),
    ((1, 0, 0, -1), 'right'),
    ((0, 1, 1, 0), 'bottom'),
    ((0, -1, -1, 0), 'top'),
  ],
)
def test_every_orientation(matrix, red, tmp_path):
  # Its right half is red.
  path = turn(make_video(tmp_path / 'a.mp4', pictures=1), matrix)
  image = picture_at(str(path), 0, same)
  lies = red in ('top', 'bottom')
  assert image.shape == ((48, 32, 3) if lies else (32, 48, 3))
  for down in (0, 1):
    for right in (0, 1):
      here = {('top', 'bottom')[down], ('left', 'right')[right]}
      is_red = corner(image, down, right)[0] > 150
      assert is_red == (red in here)
  sample = next(Video(path, 2.0, same).samples())
  np.testing.assert_array_equal(sample.image, image)


def test_mirroring_tells_up_from_down(tmp_path):
  import av

  path = tmp_path / 'a.mp4'
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=10)
    stream.height, stream.width, stream.pix_fmt = 32, 32, 'yuv420p'
    image = np.zeros((32, 32, 3), np.uint8)
    image[:16, :16] = 255
    frame = av.VideoFrame.from_ndarray(image, format='rgb24')
    container.mux([*stream.encode(frame), *stream.encode(None)])
  raw = path.read_bytes()
  for matrix, (down, right) in {
    (1, 0, 0, 1): (0, 0),
    (-1, 0, 0, 1): (0, 1),
    (1, 0, 0, -1): (1, 0),
    (0, 1, -1, 0): (0, 1),
    (0, -1, 1, 0): (1, 0),
    (0, 1, 1, 0): (0, 0),
    (0, -1, -1, 0): (1, 1),
  }.items():
    path.write_bytes(raw)
    found = picture_at(str(turn(path, matrix)), 0, same)
    for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
      white = corner(found, *place).mean() > 128
      assert white == (place == (down, right)), matrix


@pytest.mark.parametrize(('pixel', 'width'), [(2.0, 96), (0.5, 24), (40, 48)])
def test_pixels_are_square(pixel, width, tmp_path):
  path = make_video(tmp_path / 'a.mkv', pictures=2, pixel=pixel)
  assert picture_at(str(path), 0, same).shape == (32, width, 3)
  lying = turn(make_video(tmp_path / 'b.mp4', pictures=2, pixel=pixel))
  assert picture_at(str(lying), 0, same).shape == (width, 32, 3)
  sample = next(Video(path, 2.0, same).samples())
  assert sample.image.shape == (32, width, 3)
