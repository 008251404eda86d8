"""The index command on folders of videos, from the first run to the last."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

import main
from dreamprvr_jax.archive.folder.memory import Memory
from dreamprvr_jax.archive.folder.update import sources_of
from dreamprvr_jax.archive.index.checksums import sealed
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.videos import frames
from tests.helpers.searching import seal
from tests.helpers.videos import make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')


def call(*arguments):
  return main.main(
    ['main.py', '--mode=index', *map(str, arguments), '--noprogress']
  )


@pytest.fixture(scope='module')
def disk(tmp_path_factory):
  """A folder of videos and a file that is none."""
  folder = tmp_path_factory.mktemp('disk') / 'videos'
  (folder / '2024').mkdir(parents=True)
  make_video(folder / 'a.mp4', pictures=20)
  make_video(folder / 'a.mov', pictures=30)
  make_video(folder / '2024' / 'a.mp4', pictures=40)
  (folder / 'bad.avi').write_bytes(b'no video')
  (folder / 'photo.jpg').write_bytes(b'')
  return folder


@pytest.fixture(scope='module')
def made(disk, tmp_path_factory):
  """An index of it."""
  index = tmp_path_factory.mktemp('index') / 'index'
  assert not call(f'--videos={disk}', f'--index={index}', *EMBEDDED)
  return index


EMBEDDED = ('--encoder=embedded', '--retriever=tf_prvr', '--workers=1')
IDS = {'2024/a.mp4', 'a.mov', 'a.mp4'}


@pytest.fixture
def both(disk, made, tmp_path):
  """Copies of folder and index; files keep their times."""
  folder, index = tmp_path / 'videos', tmp_path / 'index'
  shutil.copytree(disk, folder)
  shutil.copytree(made, index)
  for path in index.rglob('*.json'):
    path.write_text(path.read_text().replace(str(disk), str(folder)))
  seal(index)
  memory = index / 'archive' / 'files.json'
  memory.write_text(sealed(json.loads(memory.read_text())))
  return folder, index


def again(index, *flags):
  return call(f'--index={index}', '--append', *flags)


def last(capsys):
  return capsys.readouterr().out.splitlines()[-1].partition('videos: ')[2]


def counts(**others):
  names = (
    'new', 'changed', 'moved', 'gone', 'removed on purpose', 'unreadable',
    'unchanged',
  )  # fmt: skip
  return ', '.join(f'{others.get(n.partition(" ")[0], 0)} {n}' for n in names)


def test_a_folder_becomes_an_index(disk, made, capsys):
  store = Store(made)
  assert set(store.rows_of()) == IDS
  assert store.manifest.retriever['name'] == 'tf_prvr'
  found = {source.id: source for source in sources_of(made)}
  assert found.keys() == IDS
  assert found['a.mov'].file == str(disk / 'a.mov')
  assert found['a.mov'].duration == pytest.approx(3.0, abs=0.1)
  # Nothing new: neither the encoder nor the retriever is loaded.
  assert not call(f'--videos={disk}', f'--index={made}')
  out = capsys.readouterr().out
  assert '1 .jpg' in out
  assert 'bad.avi  cannot be decoded' in out
  assert counts(unreadable=1, unchanged=3) in out


def test_nothing_new_loads_no_model(both, monkeypatch, capsys):
  from dreamprvr_jax.cli.folder_tools import Tools

  for name in ('encoder', 'retriever'):
    monkeypatch.setattr(
      Tools, name, property(lambda self: pytest.fail('loads'))
    )
  assert not again(both[1])
  assert last(capsys) == counts(unreadable=1, unchanged=3)


def test_new_changed_moved_and_gone_files(both, capsys):
  folder, index = both
  before = Store(index)
  tokens = before.tokens('frame', np.array(before.rows_of()['a.mp4']))
  (folder / 'a.mp4').rename(folder / '2024' / 'b.mp4')
  make_video(folder / 'a.mov', pictures=10)
  (folder / '2024' / 'a.mp4').unlink()
  make_video(folder / 'new.mkv', pictures=20)
  assert not again(index)
  assert last(capsys) == counts(new=1, changed=1, moved=1, gone=1, unreadable=1)
  store = Store(index)
  assert set(store.rows_of()) == {'2024/b.mp4', 'a.mov', 'new.mkv'}
  np.testing.assert_array_equal(
    store.tokens('frame', np.array(store.rows_of()['2024/b.mp4'])), tokens
  )
  found = {source.id: source for source in sources_of(index)}
  assert found['2024/b.mp4'].file == str(folder / '2024' / 'b.mp4')
  assert found['a.mov'].duration == pytest.approx(1.0, abs=0.1)
  assert not again(index)
  assert last(capsys) == counts(unreadable=1, unchanged=3)


def test_a_file_takes_the_place_and_the_id_of_another(both, capsys):
  folder, index = both
  before = Store(index)
  tokens = before.tokens('frame', np.array(before.rows_of()['a.mov']))
  (folder / 'a.mov').rename(folder / 'a.mp4')
  assert not again(index)
  assert last(capsys) == counts(moved=1, gone=1, unreadable=1, unchanged=1)
  store = Store(index)
  assert set(store.rows_of()) == {'2024/a.mp4', 'a.mp4'}
  np.testing.assert_array_equal(
    store.tokens('frame', np.array(store.rows_of()['a.mp4'])), tokens
  )


def test_a_file_that_cannot_be_read_any_more_leaves_the_index(both, capsys):
  folder, index = both
  (folder / 'a.mov').write_bytes(b'no video now')
  make_video(folder / 'bad.avi', pictures=20)
  assert not again(index)
  assert last(capsys) == counts(new=1, unreadable=1, unchanged=2)
  assert set(Store(index).rows_of()) == {'2024/a.mp4', 'a.mp4', 'bad.avi'}


def test_all_files_are_checked_before_one_is_opened(both, capsys):
  index = both[1]
  flags = 'main.py', '--mode=inspect', f'--index={index}', '--verify'
  assert main.main([*flags]) == 0
  assert 'are as they were written' in capsys.readouterr().out
  segment = next((index / 'segments').iterdir())
  for name in ('ids.json', 'clip_tokens.npy'):
    raw = (segment / name).read_bytes()
    (segment / name).write_bytes(raw[:-1] + bytes([raw[-1] ^ 2]))
  assert main.main([*flags]) == 2
  shown = capsys.readouterr()
  assert shown.out.count('damaged: ') == 2
  assert '2 of ' in shown.err


def test_removed_on_purpose_until_it_is_restored(both, capsys):
  folder, index = both
  assert not call(f'--index={index}', '--remove=a.mov')
  assert not again(index)
  assert last(capsys) == counts(removed=1, unreadable=1, unchanged=2)
  assert main.main(['main.py', '--mode=inspect', f'--index={index}']) == 0
  out = capsys.readouterr().out
  assert f'a.mov  {folder}/a.mov' in out
  assert f'{folder}/bad.avi' in out
  assert call(f'--index={index}', '--restore=b') == 2
  assert "no video 'b'" in capsys.readouterr().err
  assert not call(f'--index={index}', '--restore=a.mov')
  assert last(capsys) == counts(new=1, unreadable=1, unchanged=2)
  assert set(Store(index).rows_of()) == IDS


def test_a_removal_that_was_stopped_is_finished(both, capsys):
  index = both[1]
  memory = Memory.read(index)
  memory.removed['a.mov'] = next(
    source for source in sources_of(index) if source.id == 'a.mov'
  )
  memory.write(index)
  assert not again(index)
  assert last(capsys) == counts(removed=1, unreadable=1, unchanged=2)


def test_a_folder_that_is_not_there_takes_no_video_with_it(both, capsys):
  folder, index = both
  folder.rename(folder.with_name('unmounted'))
  assert again(index) == 2
  error = capsys.readouterr().err
  assert 'none of its 3 videos' in error
  assert 'nothing was changed' in error
  folder.mkdir()
  assert again(index) == 2
  assert Manifest.read(index).num_videos == 3
  folder.rmdir()
  assert not again(index, '--gone')
  said = capsys.readouterr().out
  assert f'{folder} is no longer there; its 3 videos' in said
  assert said.splitlines()[-1].endswith(counts(gone=3))


def test_a_second_folder_is_added(both, tmp_path, capsys):
  _, index = both
  other = tmp_path / 'phone'
  other.mkdir()
  make_video(other / 'a.mp4', pictures=25)
  assert not call(f'--index={index}', f'--videos={other / "a.mp4"}')
  assert last(capsys) == counts(new=1, unreadable=1, unchanged=3)
  assert 'phone/a.mp4' in Store(index).rows_of()


@pytest.mark.parametrize(
  ('flags', 'sentence'),
  [
    (['--encoder=clip'], '--encoder=clip, not embedded'),
    (['--retriever=best_frame'], "is 'tf_prvr'"),
    (['--retriever=x'], 'choose tf_prvr or best_frame'),
    (['--config.archive.fps=3'], 'config.archive.fps is 3.0, but'),
    (['--config.model.beta=0.5'], 'config.model.beta is 0.5, but'),
    (['--config.data.root=x'], 'config.data is set'),
    (['--tokens=int8'], '--tokens=int8, not float16'),
    (['--dtype=bfloat16'], '--dtype=bfloat16, not float32'),
    (['--checkpoint=x'], 'not the retriever tf_prvr'),
    (['--all_videos'], '--all_videos is not for'),
    (['--engine=beam'], 'leave it out'),
    (['--batch=-1'], '--batch=-1'),
    (['--max_seconds=-1'], 'must be above 0'),
  ],
)
def test_other_settings_are_refused(flags, sentence, disk, made, capsys):
  assert call(f'--videos={disk}', f'--index={made}', *flags) == 2
  assert sentence in capsys.readouterr().err


def test_what_cannot_become_an_index(tmp_path, capsys):
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in' / 'a.jpg').touch()
  index = f'--index={tmp_path}/index'
  assert call(f'--videos={tmp_path}/in', index, *EMBEDDED) == 2
  assert 'has no video' in capsys.readouterr().err
  assert call(f'--videos={tmp_path}/none', index) == 2
  assert 'does not exist' in capsys.readouterr().err
  assert call(index, '--restore=a') == 2
  assert 'is no index' in capsys.readouterr().err
  (tmp_path / 'in' / 'a.mp4').write_bytes(b'junk')
  assert call(f'--videos={tmp_path}/in', index, *EMBEDDED) == 2
  assert 'none of the 1 files could be read' in capsys.readouterr().err


def test_limits_are_tried_again_when_they_change(both, capsys):
  folder, index = both
  make_video(folder / 'long.mp4', pictures=90)
  assert not again(index, '--max_seconds=5')
  out = capsys.readouterr().out
  assert 'more than --max_seconds=5' in out
  assert counts(unreadable=2, unchanged=3) in out
  assert not again(index)
  assert last(capsys) == counts(new=1, unreadable=1, unchanged=3)


def test_another_decoder_tries_again(both, monkeypatch):
  monkeypatch.setattr(frames, 'av_version', lambda: 'another')
  _, index = both
  (bad,) = Memory.read(index).unreadable.values()
  memory = dataclasses.replace(
    Memory.read(index),
    unreadable={bad.file: dataclasses.replace(bad, reason='is no video')},
  )
  memory.write(index)
  assert not again(index)
  (bad,) = Memory.read(index).unreadable.values()
  assert bad.reason.startswith('cannot be decoded')


def test_names_that_are_no_text(both, capsys):
  folder, index = both
  name = os.fsencode(folder) + b'/caf\xe9.mp4'
  make_video(folder / 'x.mp4', pictures=15)
  os.rename(folder / 'x.mp4', name)
  assert not again(index)
  assert not again(index)
  assert last(capsys) == counts(unreadable=1, unchanged=4)
  assert 'caf%E9.mp4' in Store(index).rows_of()
  os.rename(name, folder / 'y.mp4')
  assert not again(index)
  assert last(capsys) == counts(moved=1, unreadable=1, unchanged=3)
