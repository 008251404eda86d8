"""Limits on the cost of small files; refusals and errors in workers."""

import json
import struct

import pytest

from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.extraction import jobs
from dreamprvr_jax.archive.extraction.jobs import Options, extract_folder
from dreamprvr_jax.archive.videos import frames
from dreamprvr_jax.archive.videos.files import VideoError
from dreamprvr_jax.archive.videos.frames import Limits, Video
from tests.helpers import videos as helpers
from tests.helpers.videos import make_audio, make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')
ENCODER = encoders.build('embedded')


def same(height, width):
  return height, width


def slow(path, seconds_each):
  """Writes an AVI file of 20 pictures with the given seconds for each."""
  raw = bytearray(make_video(path).read_bytes())
  place = raw.index(b'strh') + 8 + 20
  raw[place : place + 8] = struct.pack('<II', seconds_each, 1)
  path.write_bytes(raw)
  return path


def refusal(path, fps=2.0, **limits):
  with pytest.raises(VideoError) as caught:
    list(Video(str(path), fps, same, limits=Limits(**limits)).samples())
  return caught.value.reason


def test_a_small_file_that_claims_to_last_for_weeks(tmp_path):
  path = slow(tmp_path / 'a.avi', 100_000)
  assert 'lasts 2,000,000 s, more than --max_seconds=43200;' in refusal(path)
  said = refusal(path, seconds=1e9)
  assert 'more samples than --max_samples=100000;' in said
  sparse = make_video(
    tmp_path / 'a.mkv', pictures=3, times=[0, 5, 10_000_000], rate=10
  )
  assert '--max_seconds=43200' in refusal(sparse)


def test_limits_are_exact(tmp_path):
  path = make_video(tmp_path / 'a.mp4')
  limits = Limits(seconds=2.0, samples=4)
  assert len(list(Video(path, 2.0, same, limits=limits).samples())) == 4
  assert '--max_seconds=1.9;' in refusal(path, seconds=1.9)
  assert '--max_samples=3;' in refusal(path, samples=3)


def fill(folder):
  """Makes one good file and one for each refusal; returns their reasons."""
  folder.mkdir()
  make_video(folder / 'good.mp4')
  (folder / 'empty.mp4').touch()
  (folder / 'text.mp4').write_bytes(b'no video')
  make_audio(folder / 'sound.mp4')
  slow(folder / 'slow.avi', 100_000)
  cut = make_video(folder / 'cut.webm', pictures=80)
  cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 3 // 4])
  return {
    'empty': 'is empty',
    'text': 'cannot be decoded',
    'sound': 'only audio',
    'slow': '--max_seconds=43200',
    'cut': 'it is truncated',
  }


@pytest.mark.parametrize('workers', [1, 2])
def test_refusals_stop_nothing(workers, tmp_path):
  expected = fill(tmp_path / 'in')
  out = tmp_path / 'out'
  options = Options(workers=workers, progress=False)
  found = extract_folder(tmp_path / 'in', out, ENCODER, options)
  assert found.durations == {'good': 2.0}
  assert set(found.skipped) == set(expected)
  for name, reason in expected.items():
    assert reason in found.skipped[name]['reason']
  assert json.loads((out / 'skipped.json').read_text()) == found.skipped
  if workers == 2:
    return
  # With other limits, skipped files are tried again.
  options = Options(workers=1, progress=False, limits=Limits(1e7))
  found = extract_folder(tmp_path / 'in', out, ENCODER, options)
  assert set(found.skipped) == set(expected)
  assert '--max_samples=100000' in found.skipped['slow']['reason']


def test_skipped_files_are_tried_again_by_another_decoder(
  tmp_path, monkeypatch
):
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in' / 'bad.mp4').write_bytes(b'junk')
  options = Options(workers=1, progress=False)
  tried = []

  def extract(job):
    tried.append(job.name)
    return 'is no video'

  def results(given, workers):
    return ((job, extract(job)) for job in given)

  for version in ('1.0', '1.0', '2.0'):
    monkeypatch.setattr(frames, 'av_version', lambda version=version: version)
    extract_folder(
      str(tmp_path / 'in'), tmp_path / 'out', ENCODER, options, results
    )
  assert len(tried) == 2


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('kind', [TypeError, helpers.Odd])
def test_errors_of_the_program_are_no_verdict(
  workers, kind, tmp_path, monkeypatch
):
  (tmp_path / 'in').mkdir()
  for name in 'ab':
    make_video(tmp_path / 'in' / f'{name}.mp4', pictures=2)
  work = helpers.fail if kind is TypeError else helpers.fail_oddly
  monkeypatch.setattr(jobs, 'extract', work)
  options = Options(workers=workers, progress=False)
  with pytest.raises((TypeError, RuntimeError), match='a mistake'):
    extract_folder(tmp_path / 'in', tmp_path / 'out', ENCODER, options)
  assert not (tmp_path / 'out' / 'skipped.json').exists()


def test_processes_that_cannot_start_are_no_verdict(tmp_path, monkeypatch):
  make_video(tmp_path / 'a.mp4', pictures=2)
  monkeypatch.setattr(jobs, 'end_silently', helpers.end)
  with pytest.raises(jobs.BrokenProcessPool):
    extract_folder(
      tmp_path, tmp_path / 'out', ENCODER, Options(workers=1, progress=False)
    )
  assert not (tmp_path / 'out' / 'skipped.json').exists()
