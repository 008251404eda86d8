"""Paths and ids of flags."""

import pytest

from dreamprvr_jax.cli.places import ids_in, places
from dreamprvr_jax.errors import UserError


def test_folders_files_and_lists(tmp_path, monkeypatch):
  for name in ('a', 'b, c', 'in'):
    (tmp_path / name).mkdir()
  (tmp_path / 'in' / 'd.mp4').touch()
  one, comma, file = (tmp_path / n for n in ('a', 'b, c', 'in/d.mp4'))
  assert places('') == []
  assert places(f'{one},{file},{one}') == [one, file]
  assert places(str(comma)) == [comma]
  listed = tmp_path / 'list.txt'
  listed.write_text(f'{comma}\n\n  {file}\n')
  assert places(f'@{listed}') == [comma, file]
  monkeypatch.chdir(tmp_path / 'in')
  assert places('../a/') == [one]


def test_a_path_behind_a_link_is_the_real_one(tmp_path, monkeypatch):
  (tmp_path / 'far' / 'deep').mkdir(parents=True)
  (tmp_path / 'far' / 'videos').mkdir()
  (tmp_path / 'link').symlink_to(tmp_path / 'far' / 'deep')
  assert places(f'{tmp_path}/link/../videos') == [tmp_path / 'far' / 'videos']


def test_what_does_not_exist_is_named_unless_it_is_known(tmp_path):
  gone = str(tmp_path / 'gone')
  with pytest.raises(UserError, match='gone does not exist'):
    places(gone)
  assert [str(path) for path in places(gone, [gone])] == [gone]
  (tmp_path / 'empty').write_text('\n')
  with pytest.raises(UserError, match='names no folder'):
    places(f'@{tmp_path}/empty')


def test_ids_of_flags(tmp_path):
  there = ['a.mp4', 'b, c.mp4', 'cafe\u0301.mp4']
  assert ids_in('remove', 'a.mp4, x', there) == ['a.mp4', 'x']
  assert ids_in('remove', 'b, c.mp4', there) == ['b, c.mp4']
  listed = tmp_path / 'ids'
  listed.write_text('b, c.mp4\ncafé.mp4\n')
  assert ids_in('remove', f'@{listed}', there) == there[1:]
  with pytest.raises(UserError, match='names no video'):
    ids_in('restore', ',', there)
