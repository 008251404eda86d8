"""A stopped update keeps the videos that are finished."""

import os
import signal

import numpy as np
import pytest

import main
from dreamprvr_jax.archive.extraction.stretches import Encoded
from dreamprvr_jax.archive.folder import update
from dreamprvr_jax.archive.folder.sources import Stamp, content_hash
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.folders import FolderError
from tests.helpers.videos import make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')
NAMES = ('a.mp4', 'b.mp4', 'c.mp4')


@pytest.fixture
def call(tmp_path):
  (tmp_path / 'videos').mkdir()
  for name in NAMES:
    make_video(tmp_path / 'videos' / name, pictures=15)

  def run(*flags):
    return main.main(
      [
        'main.py',
        '--mode=index',
        f'--videos={tmp_path}/videos',
        f'--index={tmp_path}/index',
        '--encoder=embedded',
        '--workers=1',
        '--noprogress',
        *flags,
      ]
    )

  return run


def stopped_after(count, monkeypatch, number=signal.SIGINT):
  """Stops the command when so many videos are encoded."""
  encode = update.encode_files

  def stopping(*arguments, **options):
    files = encode(*arguments, **options)
    for place, found in enumerate(files):
      yield found
      if place + 1 == count:
        os.kill(os.getpid(), number)

  monkeypatch.setattr(update, 'encode_files', stopping)


@pytest.mark.parametrize('seconds', [0.0, 1e9])
def test_finished_videos_are_kept(seconds, call, monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(update, '_COMMIT', seconds)
  with monkeypatch.context() as patched:
    stopped_after(2, patched)
    assert call() == 130
  error = capsys.readouterr().err
  assert 'stopping; what is finished is being saved' in error
  assert '2 of 3 files are in the index' in error
  index = tmp_path / 'index'
  assert set(Store(index).rows_of()) == {'a.mp4', 'b.mp4'}
  assert not call()
  assert '1 new, 0 changed' in capsys.readouterr().out
  assert set(Store(index).rows_of()) == set(NAMES)
  assert not list((index / 'archive').glob('tmp*'))


def test_a_stop_before_the_first_video_leaves_no_index(
  call, monkeypatch, tmp_path, capsys
):
  def stop(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)
    yield from ()

  with monkeypatch.context() as patched:
    patched.setattr(update, 'encode_files', stop)
    assert call() == 143
  assert '0 of 3 files are in the index' in capsys.readouterr().err
  with pytest.raises(UserError, match='is no index'):
    Manifest.read(tmp_path / 'index')
  assert not call()
  assert Manifest.read(tmp_path / 'index').num_videos == 3


def test_a_file_that_the_disk_does_not_give_is_tried_again(
  call, monkeypatch, tmp_path, capsys
):
  """Neither is it passed over for ever, nor is its former content dropped."""
  assert not call()
  path = tmp_path / 'videos' / 'a.mp4'
  make_video(path, pictures=30)
  make_video(tmp_path / 'videos' / 'd.mp4', pictures=45)
  encode = update.encode_files

  def failing(*arguments, **options):
    for found in encode(*arguments, **options):
      found.reason = 'cannot be read (Input/output error)'
      yield found

  with monkeypatch.context() as patched:
    patched.setattr(update, 'encode_files', failing)
    assert not call()
  assert 'Input/output error' in capsys.readouterr().out
  assert set(Store(tmp_path / 'index').rows_of()) == set(NAMES)
  assert not call()
  assert '1 new, 1 changed' in capsys.readouterr().out
  assert set(Store(tmp_path / 'index').rows_of()) == {*NAMES, 'd.mp4'}


def test_compacting_does_not_disturb_another_command(call, tmp_path, capsys):
  assert not call()
  index = tmp_path / 'index'
  flags = ['main.py', '--mode=index', f'--index={index}', '--compact']
  with update.held(index):
    assert main.main(flags) == 2
  assert 'in use by another command' in capsys.readouterr().err
  assert main.main(flags) == 0


def test_two_commands_at_once(tmp_path):
  with (
    update.held(tmp_path / 'index'),
    pytest.raises(FolderError, match='in use by another command'),
    update.held(tmp_path / 'index'),
  ):
    pass


def test_a_file_that_changes_meanwhile_is_known_again_by_nothing(tmp_path):
  path = tmp_path / 'a'
  path.write_bytes(b'a')
  stamp = Stamp.of(path)
  assert update._hash(str(path), stamp) == content_hash(path)
  path.write_bytes(b'ab')
  assert not update._hash(str(path), stamp)
  path.unlink()
  assert not update._hash(str(path), stamp)


@pytest.mark.parametrize(
  ('value', 'reason'),
  [(1.0, ''), (0.0, 'without features'), (float('nan'), 'not finite')],
)
def test_features_that_cannot_be_indexed_are_named(value, reason):
  found = Encoded('a.mp4', 2.0)
  found.add(np.full((3, 4), value, np.float32))
  found.duration = 1.5
  assert reason in update._problem(found)
  assert bool(reason) == bool(update._problem(found))
  found.close()


def test_a_video_whose_tokens_cannot_be_stored_is_left_out(
  call, monkeypatch, tmp_path, capsys
):
  rows_of = update.rows_of_video

  def too_large(retriever, found, *arguments):
    for rows in rows_of(retriever, found, *arguments):
      if found.path.endswith('b.mp4'):
        rows = {**rows, 'frame_tokens': rows['frame_tokens'] * 1e6}
      yield rows

  monkeypatch.setattr(update, 'rows_of_video', too_large)
  assert not call()
  out, error = capsys.readouterr()
  assert 'are not finite as float16' in out + error
  assert '1 unreadable' in out
  assert set(Store(tmp_path / 'index').rows_of()) == {'a.mp4', 'c.mp4'}
