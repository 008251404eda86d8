"""Extraction by workers writes the same files as extraction in processes."""

import h5py
import pytest

from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.extraction import jobs
from dreamprvr_jax.archive.extraction.jobs import Job, Options, extract_folder
from dreamprvr_jax.archive.extraction.state import Source, State, kept
from dreamprvr_jax.archive.jobs import extraction
from dreamprvr_jax.archive.jobs.engine import Engine
from dreamprvr_jax.errors import UserError
from tests.helpers.videos import extract_or_die, make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')
ENCODER = encoders.build('embedded')
OPTIONS = Options(workers=2, progress=False)
SETTINGS = {'encoder': ENCODER.identity, 'fps': 2.0}


@pytest.fixture
def videos(tmp_path):
  folder = tmp_path / 'in'
  folder.mkdir()
  for i in range(4):
    make_video(folder / f'{i}.mp4', pictures=10 + 5 * i)
  (folder / 'broken.mp4').write_bytes(b'no video')
  return folder


def read(folder):
  with h5py.File(folder / 'FeatureData/extracted/feature.hdf5') as file:
    return {name: file[name][:].tobytes() for name in file}


def test_two_workers_with_elements_that_come_twice(videos, tmp_path):
  pytest.importorskip('apache_beam', reason='needs the extra `batch`')
  engine = Engine('beam', '--direct_runner_bundle_repeat=1', workers=2)
  results = extraction.results_of(engine)
  plain = extract_folder(videos, tmp_path / 'plain', ENCODER, OPTIONS)
  found = extract_folder(videos, tmp_path / 'beam', ENCODER, OPTIONS, results)
  assert (found.done, found.there) == (plain.done, plain.there) == (4, 0)
  assert found.skipped == plain.skipped
  assert found.durations == plain.durations
  assert found.seconds == pytest.approx(plain.seconds)
  assert read(tmp_path / 'beam') == read(tmp_path / 'plain')
  # Nothing is left to do, and no worker is started.
  again = extract_folder(videos, tmp_path / 'beam', ENCODER, OPTIONS, results)
  assert (again.done, again.there) == (0, 4)


def job_of(path, folder):
  state = State(folder, SETTINGS)
  source = Source.of(path)
  return state, Job(path.stem, source, str(folder), SETTINGS, 32, '', 1)


def test_a_file_that_ends_its_process(tmp_path, monkeypatch):
  monkeypatch.setattr(jobs, 'extract', extract_or_die)
  for name in ('deadly', 'good'):
    path = make_video(tmp_path / f'{name}.mp4')
    _, job = job_of(path, tmp_path / 'out')
    extraction.work(job)
    found = kept(job.folder, job.name, job.source)
    assert found == (jobs.DEADLY if name == 'deadly' else 2)


class Partial(Engine):
  """Processes only the first element, then fails or reports success."""

  def run(self, work, elements):
    work(elements[0])
    if self.options:
      raise UserError(self.options)


@pytest.mark.parametrize('reason', ['', 'no more machines'])
def test_what_was_finished_is_kept(videos, tmp_path, reason):
  results = extraction.results_of(Partial('beam', reason))
  folder = tmp_path / 'out'
  with pytest.raises(UserError, match=reason or 'no worker left a result of'):
    extract_folder(videos, folder, ENCODER, OPTIONS, results)
  found = extract_folder(videos, folder, ENCODER, OPTIONS)
  assert (found.done, found.there, len(found.skipped)) == (3, 1, 1)


def test_a_reason_counts_until_the_file_changes(tmp_path):
  path = tmp_path / 'bad.mp4'
  path.write_bytes(b'no video')
  _, job = job_of(path, tmp_path / 'out')
  extraction.work(job)
  assert 'cannot be decoded' in kept(job.folder, job.name, job.source)
  make_video(path)
  _, job = job_of(path, tmp_path / 'out')
  assert kept(job.folder, job.name, job.source) is None
  extraction.work(job)
  assert kept(job.folder, job.name, job.source) == 2
