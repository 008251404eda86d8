import os
import signal
import subprocess
import sys

import pytest

from dreamprvr_jax import folders

_HOLD = """
import sys, time
from dreamprvr_jax import folders
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
    process.wait()
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
