import os
import signal
import subprocess
import sys

import pytest

from dreamprvr_jax import folders
from tests.helpers import disks

_HOLD = """
import sys, time
from dreamprvr_jax import folders
from tests.helpers import disks
with folders.held(sys.argv[1], 'run'):
  print('held', flush=True)
  time.sleep(60)
"""


def _holder(folder):
  process = subprocess.Popen(
    [sys.executable, '-c', _HOLD, str(folder)],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'held\n'
  return process


def test_a_second_process_is_refused_and_a_dead_one_replaced(tmp_path):
  process = _holder(tmp_path)
  try:
    with (
      pytest.raises(
        folders.FolderError, match=rf'in use .* \(process {process.pid} on '
      ),
      folders.held(tmp_path, 'run'),
    ):
      pass
  finally:
    process.send_signal(signal.SIGKILL)
    process.communicate()
  with folders.held(tmp_path, 'run'):
    holder = (tmp_path / folders.LOCK).read_text()
  assert holder.startswith(f'{os.getpid()} on ')


def test_claims_what_is_empty_or_ours(tmp_path):
  folder = folders.claim(tmp_path / 'a', 'index')
  (folder / 'content').touch()
  assert folders.claim(folder, 'index') == folder
  assert folders.kind_of(folder) == 'index'
  with pytest.raises(folders.FolderError, match="marked as 'index' where"):
    folders.claim(folder, 'run')


def test_leaves_foreign_folders_alone(tmp_path):
  (tmp_path / 'notes').mkdir()
  with pytest.raises(folders.FolderError, match=r'other files \(notes\)'):
    folders.claim(tmp_path, 'index')
  assert [path.name for path in tmp_path.iterdir()] == ['notes']
  assert folders.kind_of(tmp_path) is None


def test_knows_folders_of_before_the_marker(tmp_path):
  (tmp_path / 'manifest.json').touch()
  folders.claim(tmp_path, 'index', known=['manifest.json'])
  assert folders.kind_of(tmp_path) == 'index'


def test_replaces_in_one_step(tmp_path):
  path = tmp_path / 'new' / 'a.json'
  with folders.replacing(path) as partial:
    partial.write_text('1')
    assert not path.exists()

  def fail():
    with folders.replacing(path) as partial:
      partial.write_text('2')
      raise KeyError

  with pytest.raises(KeyError):
    fail()
  assert path.read_text() == '1'
  assert [p.name for p in path.parent.iterdir()] == ['a.json']


def test_names_the_file_that_cannot_be_written(tmp_path):
  with (
    pytest.raises(IsADirectoryError) as caught,
    folders.replacing(tmp_path) as partial,
  ):
    partial.write_text('1')
  assert caught.value.filename == str(tmp_path)


def test_json_is_whole_or_as_before(tmp_path):
  path = tmp_path / 'deep/metrics.json'
  folders.write_json(path, {'SumR': 1})
  before = path.read_text()
  with (
    disks.short_files(1000),
    pytest.raises(OSError, match='File too large') as e,
  ):
    folders.write_json(path, {'scores': list(range(1000))})
  assert e.value.filename == str(path)
  assert path.read_text() == before
  assert list(path.parent.iterdir()) == [path]


def test_waits_for_the_end_of_the_holder(tmp_path, monkeypatch):
  process = _holder(tmp_path)
  said = []

  def note(text, *args):
    said.append(text % args)
    process.kill()

  monkeypatch.setattr(folders._log, 'info', note)
  with folders.held(tmp_path, 'run', wait=True):
    holder = (tmp_path / folders.LOCK).read_text()
  process.communicate()
  assert f'the run {tmp_path}: waiting for process {process.pid} on ' in said[0]
  assert holder.startswith(f'{os.getpid()} on ')


def test_a_folder_in_which_nothing_was_written_goes(tmp_path):
  (tmp_path / 'there').mkdir()
  for name in ('there', 'new', 'used'):
    with folders.held(tmp_path / name, 'run'):
      if name == 'used':
        (tmp_path / name / 'content').touch()
  assert {path.name for path in tmp_path.iterdir()} == {'there', 'used'}


def test_a_folder_is_made_as_a_whole_or_not_at_all(tmp_path):
  target = tmp_path / 'corpus'

  def fail():
    with folders.made(target, 'corpus') as fresh:
      (fresh / 'half').touch()
      raise KeyError

  with pytest.raises(KeyError):
    fail()
  assert list(tmp_path.iterdir()) == []
  # Remains of a killed process are not included.
  (tmp_path / '.corpus.partial').mkdir()
  for name in (folders.LOCK, 'half'):
    (tmp_path / '.corpus.partial' / name).touch()
  with folders.made(target, 'corpus') as fresh:
    assert not target.exists()
    (fresh / 'whole').touch()
    with (
      pytest.raises(
        folders.FolderError, match=f'the corpus {target} is in use by'
      ),
      folders.made(target, 'corpus'),
    ):
      pass
  assert [path.name for path in target.iterdir()] == ['whole']
  assert [path.name for path in tmp_path.iterdir()] == ['corpus']
  with folders.made(target, 'corpus') as fresh:
    assert fresh is None
  assert [path.name for path in target.iterdir()] == ['whole']


def test_a_lock_that_was_removed_meanwhile_holds_nothing(tmp_path, monkeypatch):
  """A process waits for a lock file that its holder then removes."""
  lock = folders._lock

  def lock_late(file, *others):
    monkeypatch.setattr(folders, '_lock', lock)
    (tmp_path / folders.LOCK).unlink()
    lock(file, *others)

  monkeypatch.setattr(folders, '_lock', lock_late)
  with (
    folders.held(tmp_path, 'run'),
    pytest.raises(folders.FolderError, match='in use'),
    folders.held(tmp_path, 'run'),
  ):
    pass


def test_makes_nothing_where_somebody_elses_files_are(tmp_path):
  note = tmp_path / '.a.partial' / 'note.txt'
  note.parent.mkdir()
  note.touch()

  def make():
    with folders.made(tmp_path / 'a', 'import'):
      pass

  with pytest.raises(folders.FolderError, match=r'other files \(note\.txt\)'):
    make()
  assert note.exists()


_MAKE = """
import pathlib, sys
from dreamprvr_jax import folders
for number in range(int(sys.argv[2])):
  target = pathlib.Path(sys.argv[1]) / str(number)
  with folders.made(target, 'corpus', wait=True) as fresh:
    if fresh is not None:
      (fresh / 'content').touch()
  assert (target / 'content').exists()
"""


def test_processes_that_wait_for_each_other_all_succeed(tmp_path):
  command = [sys.executable, '-c', _MAKE, str(tmp_path), '200']
  processes = [
    subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for _ in range(4)
  ]
  for process in processes:
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path):
  (tmp_path / folders.LOCK).symlink_to(tmp_path / 'gone' / 'lock')
  with pytest.raises(FileNotFoundError), folders.held(tmp_path, 'run'):
    pass
  (tmp_path / 'file').touch()
  with pytest.raises(FileExistsError), folders.held(tmp_path / 'file', 'run'):
    pass
