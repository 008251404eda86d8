"""Files of folders: what is listed, what is passed over, and short ids."""

import os

import pytest

from dreamprvr_jax.archive.videos.finding import (
  find_videos,
  list_videos,
  numbered,
  told_passed,
)


def touch(folder, *names):
  for name in names:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')


def below(listing):
  return [file.below for file in listing.files]


def test_every_container_is_taken_and_the_rest_is_counted(tmp_path):
  touch(tmp_path, 'a.mp4', 'b/c.MTS', 'b/d.wmv', 'b/e.gif', 'f.ogv', 'g.3gp')
  touch(
    tmp_path, 'x.jpg', 'b/y.JPG', 'z.m3u8', 'notes.txt', '.h.mp4', '.i/j.mp4'
  )
  listing = list_videos([tmp_path])
  assert below(listing) == [
    'a.mp4',
    'b/c.MTS',
    'b/d.wmv',
    'b/e.gif',
    'f.ogv',
    'g.3gp',
  ]
  assert listing.passed == {'.jpg': 2, '.m3u8': 1}
  assert told_passed(listing.passed) == (
    '; passed over as no videos: 2 .jpg, 1 .m3u8'
  )
  assert not listing.unread


def test_folders_and_files_are_each_listed_once(tmp_path):
  touch(tmp_path, 'in/a.mp4', 'in/deep/b.mp4', 'other/named.bin')
  (tmp_path / 'other' / 'link.mp4').symlink_to(tmp_path / 'in' / 'a.mp4')
  listing = list_videos(
    [
      tmp_path / 'in' / 'deep' / 'b.mp4',
      tmp_path / 'in',
      tmp_path / 'in' / 'deep',
      tmp_path / 'other',
      tmp_path / 'other' / 'named.bin',
    ]
  )
  assert sorted(below(listing)) == ['a.mp4', 'deep/b.mp4', 'named.bin']
  assert {str(file.root.name) for file in listing.files} == {'in', 'other'}


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
  touch(tmp_path, 'a.mp4', 'shut/b.mp4')
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'disk').symlink_to(tmp_path / 'not mounted')
  scandir = os.scandir

  def refuse(path):
    if os.fspath(path).endswith('shut'):
      raise PermissionError(13, 'Permission denied')
    return scandir(path)

  monkeypatch.setattr(os, 'scandir', refuse)
  listing = list_videos([tmp_path, tmp_path / 'nowhere'])
  assert below(listing) == ['a.mp4']
  assert [path.name for path in listing.unread] == ['shut']
  assert [path.name for path in listing.away] == ['disk', 'empty', 'nowhere']


def test_a_file_of_which_nothing_can_be_told_is_named(tmp_path, monkeypatch):
  touch(tmp_path, 'a.mp4', 'b.mp4')
  stat = os.stat

  def refuse(path, *args, **options):
    if os.fspath(path).endswith('b.mp4'):
      raise OSError(5, 'Input/output error')
    return stat(path, *args, **options)

  monkeypatch.setattr(os, 'stat', refuse)
  monkeypatch.setattr(os.path, 'isfile', lambda path: 'a.mp4' in str(path))
  listing = list_videos([tmp_path])
  assert below(listing) == ['a.mp4']
  assert listing.unread == [tmp_path / 'b.mp4']


@pytest.mark.parametrize(
  ('files', 'ids'),
  [
    (['a.mp4', 'b.mov'], ['a', 'b']),
    (['a.mov', 'a.mp4', 'b.mp4'], ['a.mov', 'a.mp4', 'b']),
    (['2023/I 1.mp4', '2024/I 1.mp4'], ['2023_I_1', '2024_I_1']),
    (
      ['x/a.mov', 'x/a.mp4', 'y/a.mp4'],
      ['a.mov', 'x_a', 'y_a'],
    ),
    (
      ['x_a.mp4', 'x/a.mp4', 'a.mp4'],
      ['a', 'x_a', 'x_a.mp4'],
    ),
  ],
)
def test_short_ids_differ_only_where_they_would_clash(files, ids, tmp_path):
  touch(tmp_path, *files)
  assert sorted(find_videos(tmp_path)) == ids


def test_numbers_of_ids():
  assert numbered(['a', 'a', 'b'], ['a_2']) == ['a', 'a_3', 'b']
