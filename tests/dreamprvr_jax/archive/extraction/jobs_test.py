"""Extraction of folders: kept, skipped, continued and refused files."""

import json
import os
import signal

import h5py
import numpy as np
import pytest

from data_pipeline.errors import DataError
from dreamprvr_jax import folders
from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.extraction import jobs
from dreamprvr_jax.archive.extraction.jobs import Options, extract_folder
from dreamprvr_jax.archive.extraction.state import State
from dreamprvr_jax.archive.extraction.video import extract_file
from dreamprvr_jax.archive.videos.finding import find_videos
from tests.helpers.image_text import make_model
from tests.helpers.videos import extract_or_die, make_audio, make_video

av = pytest.importorskip('av', reason='videos are decoded with PyAV')
ENCODER = encoders.build('embedded')
OPTIONS = Options(workers=1, progress=False)


def read(folder):
  path = folder / 'FeatureData' / 'extracted' / 'feature.hdf5'
  with h5py.File(path) as file:
    return {name: file[name][:] for name in file}


def test_a_folder_that_grows(tmp_path):
  videos, folder = tmp_path / 'in', tmp_path / 'out' / 'mine'
  (videos / 'inside').mkdir(parents=True)
  first = make_video(videos / 'first one.mp4')
  make_video(videos / 'inside' / 'second.AVI'.lower(), pictures=7)
  (videos / 'broken.mkv').write_bytes(b'no video')
  (videos / 'empty.mp4').touch()
  make_audio(videos / 'sound.mp4')
  (videos / '.hidden.mp4').write_bytes(b'')
  (videos / 'notes.txt').write_text('notes')

  found = extract_folder(videos, folder, ENCODER, OPTIONS)
  assert (found.found, found.done, found.there) == (5, 2, 0)
  assert found.seconds == pytest.approx(2.7, abs=0.1)
  assert set(found.skipped) == {'broken', 'empty', 'sound'}
  assert 'only audio' in found.skipped['sound']['reason']
  assert json.loads((folder / 'skipped.json').read_text()) == found.skipped
  features = read(folder)
  assert {k: v.shape for k, v in features.items()} == {
    'first_one': (4, ENCODER.visual_width),
    'second': (1, ENCODER.visual_width),
  }
  np.testing.assert_array_equal(
    features['first_one'],
    extract_file(str(first), ENCODER.identity, batch=3).features,
  )
  durations = json.loads((folder / 'durations.json').read_text())
  assert durations == found.durations
  assert durations['first_one'] == pytest.approx(2, abs=0.01)
  identity = json.loads((folder / 'encoder.json').read_text())
  assert identity == ENCODER.identity

  # Nothing is left to do, and nothing is written.
  before = (folder / 'FeatureData/extracted/feature.hdf5').stat()
  found = extract_folder(videos, folder, ENCODER, OPTIONS)
  assert (found.done, found.there, len(found.skipped)) == (0, 2, 3)
  after = (folder / 'FeatureData/extracted/feature.hdf5').stat()
  assert after.st_ino == before.st_ino

  # One file is new, one repaired, one changed, one removed.
  make_video(videos / 'third.webm', pictures=12)
  make_video(videos / 'broken.mkv', pictures=16)
  (videos / 'inside' / 'second.avi').unlink()
  make_video(first, pictures=30)
  found = extract_folder(videos, folder, ENCODER, OPTIONS)
  assert (found.done, found.there) == (3, 0)
  assert set(found.skipped) == {'empty', 'sound'}
  assert {name: len(x) for name, x in read(folder).items()} == {
    'first_one': 6,
    'second': 1,
    'third': 2,
    'broken': 3,
  }
  assert set(found.durations) == set(read(folder))

  # Features stay when their file is damaged later, and this is reported.
  first.write_bytes(b'broken now')
  found = extract_folder(videos, folder, ENCODER, OPTIONS)
  assert set(found.skipped) == {'empty', 'sound', 'first_one'}
  assert len(read(folder)['first_one']) == 6

  with pytest.raises(DataError, match=r'fps: 2.0 there, 1.0 now'):
    extract_folder(videos, folder, ENCODER, Options(fps=1.0, workers=1))
  other = {'encoder': {'name': 'clip', 'weights': 'x'}, 'fps': 2.0}
  with pytest.raises(DataError, match=r"name: 'embedded' there, 'clip' now\)"):
    State(folder, other)
  assert len(read(folder)) == 4


def test_a_stop_loses_nothing(tmp_path, monkeypatch):
  videos, folder = tmp_path / 'in', tmp_path / 'out'
  videos.mkdir()
  for i in range(9):
    make_video(videos / f'{i}.avi', pictures=20)
  (videos / 'empty.avi').touch()
  seen = []

  def update(self, count=1):
    seen.append(count)
    if len(seen) == 3:
      os.kill(os.getpid(), signal.SIGINT)

  monkeypatch.setattr(jobs.tqdm.tqdm, 'update', update)
  with pytest.raises(KeyboardInterrupt):
    extract_folder(videos, folder, ENCODER, OPTIONS)
  parts = list((folder / '.extracting' / 'parts').glob('*.npz'))
  assert 2 <= len(parts) < 9
  assert not (folder / 'FeatureData').exists()
  # An interrupted write leaves two files; one part is damaged.
  place, name = parts[0].parent, parts[0].name
  (place / f'.{name}.{"ab" * 6}.tmp').write_bytes(b'half')
  (place / f'.7-0123abcd.partial.{name}').write_bytes(parts[0].read_bytes())
  parts[0].write_bytes(b'')
  found = extract_folder(videos, folder, ENCODER, OPTIONS)
  assert found.there == len(parts) - 1
  assert found.done == 9 - found.there
  assert len(read(folder)) == 9
  assert set(found.skipped) == {'empty'}
  assert not (folder / '.extracting' / 'parts').exists()


def test_a_file_that_ends_its_process(tmp_path, monkeypatch):
  videos, folder = tmp_path / 'in', tmp_path / 'out'
  videos.mkdir()
  for name in ('a', 'deadly', 'c', 'd'):
    make_video(videos / f'{name}.avi', pictures=5)
  monkeypatch.setattr(jobs, 'extract', extract_or_die)
  found = extract_folder(
    videos, folder, ENCODER, Options(workers=2, progress=False)
  )
  assert set(read(folder)) == {'a', 'c', 'd'}
  assert 'ends the process' in found.skipped['deadly']['reason']


def test_two_commands_at_once(tmp_path):
  make_video(tmp_path / 'a.avi')
  with (
    folders.held(tmp_path / 'out', 'collection'),
    pytest.raises(folders.FolderError, match='in use by another command'),
  ):
    extract_folder(tmp_path, tmp_path / 'out', ENCODER, OPTIONS)


def test_folders_that_cannot_be(tmp_path):
  with pytest.raises(DataError, match='is no folder'):
    find_videos(tmp_path / 'nowhere')
  with pytest.raises(DataError, match='has no video'):
    find_videos(tmp_path)
  (tmp_path / 'a.mp4').touch()
  # Features from another source are not changed.
  foreign = tmp_path / 'out' / 'FeatureData' / 'extracted' / 'feature.hdf5'
  foreign.parent.mkdir(parents=True)
  foreign.write_bytes(b'mine')
  with pytest.raises(DataError, match='was not extracted here'):
    extract_folder(tmp_path, tmp_path / 'out', ENCODER, OPTIONS)
  assert foreign.read_bytes() == b'mine'


def test_an_encoder_on_a_device(tmp_path):
  pytest.importorskip('tokenizers', reason='the extra hub is not installed')
  place = make_model(tmp_path / 'model', 'clip')
  encoder = encoders.build(f'clip:{place}', batch=8)
  videos, folder = tmp_path / 'in', tmp_path / 'out'
  videos.mkdir()
  first = make_video(videos / 'a.mp4', size=(48, 64))
  make_video(videos / 'b.avi', pictures=7)
  (videos / 'broken.mkv').write_bytes(b'no video')
  found = extract_folder(videos, folder, encoder, Options(progress=False))
  assert (found.done, set(found.skipped)) == (2, {'broken'})
  features = read(folder)
  assert {k: v.shape for k, v in features.items()} == {
    'a': (4, encoder.visual_width),
    'b': (1, encoder.visual_width),
  }
  np.testing.assert_allclose(
    features['a'], extract_file(str(first), encoder.identity).features, 1e-5
  )
  # The pictures are those of the file, not scaled before.
  with av.open(str(first)) as file:
    frames = [f.to_ndarray(format='rgb24') for f in file.decode(video=0)]
  wanted = encoder.pictures(frames)
  for row in features['a']:
    assert np.abs(wanted - row).max(axis=1).min() < 1e-5
  assert not list((folder / '.extracting').glob('tmp*'))
