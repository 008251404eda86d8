"""Features of files of any length, in parts, from several processes."""

import itertools
import os

import numpy as np
import pytest

from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.extraction import decoders, stretches
from dreamprvr_jax.archive.extraction.decoders import DEADLY
from dreamprvr_jax.archive.extraction.stretches import cuts, encode_files
from dreamprvr_jax.archive.extraction.video import extract_file
from dreamprvr_jax.archive.videos.files import VideoError
from tests.helpers.videos import make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')
ENCODER = encoders.build('embedded')


class Dying(type(ENCODER)):
  """An encoder whose process ends at a grey picture."""

  def frames(self, images, before=None):
    if images.std() < 1:
      os._exit(1)
    return super().frames(images, before)


@pytest.mark.parametrize('count', [1, 2, 10, 11, 37, 1000])
@pytest.mark.parametrize(('most', 'overlap'), [(10, 0), (10, 3), (1, 0)])
def test_parts_cover_all_samples_and_are_of_one_length(count, most, overlap):
  found = cuts(count, most, overlap)
  assert found[0][0] == 0
  assert found[-1][1] == count
  lengths = [stop - start for start, stop in found]
  assert max(lengths) <= most
  assert max(lengths) - lengths[-1] < len(found)
  assert len(set(lengths[:-1])) <= 1
  for (_, stop), (start, _) in itertools.pairwise(found):
    assert stop - start == overlap


def test_one_part_if_there_is_room():
  assert cuts(9, float('inf'), 0) == [(0, 9)]
  assert cuts(0, 5, 0) == []


def test_the_parts_of_a_file(tmp_path):
  path = str(make_video(tmp_path / 'a.mp4', pictures=60))
  whole = extract_file(path, ENCODER.identity, 4.0)
  assert len(whole.features) == 24
  parts = list(
    stretches.stretches(path, ENCODER, 4.0, seconds=2.5, overlap=0.5, batch=5)
  )
  assert [part.start for part in parts] == [0, 2, 4]
  assert [part.last for part in parts] == [False, False, True]
  assert {part.duration for part in parts} == {whole.duration}
  assert parts[0].end == 2.5
  assert parts[-1].end == whole.duration
  for part in parts:
    rows = np.round(part.times * 4 - 0.5).astype(int)
    np.testing.assert_array_equal(part.times, (rows + 0.5) / 4)
    np.testing.assert_array_equal(part.features, whole.features[rows])
    assert part.features.dtype == np.float32


def test_a_very_short_file(tmp_path):
  path = str(make_video(tmp_path / 'a.mp4', pictures=2))
  (part,) = stretches.stretches(path, ENCODER, 2.0, seconds=10.0, overlap=1.0)
  assert part.times == pytest.approx([part.duration / 2])
  assert part.last


def test_a_bad_file(tmp_path):
  (tmp_path / 'a.mp4').write_bytes(b'no video')
  with pytest.raises(VideoError, match='cannot be decoded'):
    list(stretches.stretches(str(tmp_path / 'a.mp4'), ENCODER))
  path = str(make_video(tmp_path / 'b.mp4', pictures=2))
  with pytest.raises(ValueError, match='overlap'):
    list(stretches.stretches(path, ENCODER, seconds=2.0, overlap=2.0))


def test_many_files(tmp_path):
  paths = [
    str(make_video(tmp_path / f'{i}.mp4', pictures=10 + 10 * i))
    for i in range(5)
  ]
  (tmp_path / 'bad.mp4').write_bytes(b'no video')
  paths.insert(2, str(tmp_path / 'bad.mp4'))
  seen = {}
  for found in encode_files(
    paths, ENCODER, 4.0, workers=2, batch=3, folder=str(tmp_path)
  ):
    seen[found.path] = found.reason or found.read()
    assert len(found) == sum(
      len(part.times) for part in found.stretches(1.0, 0.0)
    )
  assert set(seen) == set(paths)
  assert 'cannot be decoded' in seen.pop(paths[2])
  for path, features in seen.items():
    np.testing.assert_array_equal(
      features, extract_file(path, ENCODER.identity, 4.0).features
    )


def test_a_file_that_ends_its_process(tmp_path, grey_video):
  paths = [str(make_video(tmp_path / f'{i}.mp4')) for i in range(3)]
  paths.insert(1, grey_video)
  seen = {
    found.path: found.reason
    for found in encode_files(paths, Dying(), workers=1)
  }
  assert seen.pop(grey_video) == DEADLY
  assert seen == dict.fromkeys(seen, '')
  assert len(seen) == 3


def test_an_error_of_the_program_ends_all(tmp_path):
  class Local(type(ENCODER)):
    """It cannot be sent to another process."""

  path = str(make_video(tmp_path / 'a.mp4'))
  with pytest.raises(Exception, match=r'pickle|local object'):
    list(encode_files([path], Local(), workers=1))
  found = encode_files([path, path + 'x'], ENCODER, workers=1)
  next(found)
  # Stops its processes.
  found.close()


@pytest.fixture
def grey_video(tmp_path):
  import av

  path = str(tmp_path / 'grey.mp4')
  with av.open(path, 'w') as file:
    stream = file.add_stream('libx264', rate=10)
    stream.width, stream.height, stream.pix_fmt = 32, 32, 'yuv420p'
    image = np.full((32, 32, 3), 128, np.uint8)
    for _ in range(20):
      file.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
    file.mux(stream.encode())
  return path


def small(image):
  """Returns every eighth pixel; runs in the decoding processes."""
  return image[::8, ::8]


class Device(type(ENCODER)):
  """An encoder that works in this process on batches of several files."""

  on_device = True
  batch = 8

  def __init__(self):
    self.batches = []
    self.size = whole
    self.prepare = small

  def frames(self, images, before=None):
    assert images.shape[1:] == (4, 6, 3)
    self.batches.append(len(images))
    return images.reshape(len(images), -1).astype(np.float32)


def whole(height, width):
  return height, width


def test_batches_of_a_device_are_full(tmp_path):
  paths = [
    str(make_video(tmp_path / f'{i}.mp4', pictures=10 + 10 * i))
    for i in range(5)
  ]
  (tmp_path / 'bad.mp4').write_bytes(b'no video')
  encoder = Device()
  seen = {}
  for found in encode_files(
    [*paths, str(tmp_path / 'bad.mp4')], encoder, 4.0, workers=2
  ):
    seen[found.path] = found.reason or found.read()
  assert 'cannot be decoded' in seen.pop(str(tmp_path / 'bad.mp4'))
  total = sum(map(len, seen.values()))
  assert encoder.batches == [8] * (total // 8) + [total % 8] * (total % 8 > 0)
  for path in paths:
    (part,) = stretches.stretches(path, Device(), 4.0)
    np.testing.assert_array_equal(seen[path], part.features)


def test_what_was_not_taken_is_removed(tmp_path):
  paths = [str(make_video(tmp_path / f'{i}.mp4')) for i in range(3)]
  files = encode_files(paths, Device(), 4.0, workers=2, folder=str(tmp_path))
  first = next(files)
  assert len(first) == len(first.read())
  files.close()
  with pytest.raises(ValueError, match='closed'):
    first.read()


def test_a_process_that_starts_during_a_stop_is_ended(monkeypatch):
  calls = []

  class Late:
    def __init__(self, work):
      feed.stop.set()
      feed.end_processes()

    def work(self, path):
      calls.append('works')
      raise EOFError
      yield

    def stop(self):
      calls.append('stops')

    def end(self):
      calls.append('ends')

  monkeypatch.setattr(decoders, '_Process', Late)
  feed = decoders._Feed(iter(['a', 'b']), None, 1)
  feed.run()
  assert calls == ['stops', 'works', 'ends']
  assert feed.ended == 1


def test_a_process_is_ended_after_an_error_of_the_program(monkeypatch):
  calls = []

  class Wrong:
    def __init__(self, work):
      del work

    def work(self, path):
      raise TypeError(path)
      yield

    def end(self):
      calls.append('ends')

  monkeypatch.setattr(decoders, '_Process', Wrong)
  feed = decoders._Feed(iter(['a', 'b']), None, 4)
  feed.run()
  assert calls == ['ends']
  assert feed.events.get() == ('a', decoders.Begun())
  with pytest.raises(TypeError):
    list(feed.taken())
