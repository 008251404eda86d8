"""What differs between an index and its folders."""

import dataclasses
import json
import os
import pathlib

import pytest

from dreamprvr_jax.archive.folder.comparison import compare
from dreamprvr_jax.archive.folder.memory import Memory, Unreadable
from dreamprvr_jax.archive.folder.sources import (
  Source,
  Stamp,
  content_hash,
  ids_of,
  name_of,
)
from dreamprvr_jax.archive.videos.finding import File, list_videos
from dreamprvr_jax.errors import UserError


def write(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)


@pytest.fixture
def disk(tmp_path):
  """Three files in a folder, and the sources of an index of them."""
  for name in ('a.mp4', 'b.mp4', 'in/c.mov'):
    write(tmp_path / 'disk' / name, name.encode() * 9)
  return tmp_path / 'disk', sources(tmp_path / 'disk')


def sources(*places, known=(), memory=None):
  """Returns the sources of an index after an update."""
  plan = compare(list_videos(places), known, memory or Memory())
  left = {source.id: source for source in known}
  for former, now in plan.moved:
    del left[former.id]
    left[now.id] = now
  for task in plan.tasks:
    path = str(task.file.path)
    left[task.id] = Source(
      task.id, path, str(task.file.root), task.stamp, content_hash(path)
    )
  for source in plan.gone:
    del left[source.id]
  return list(left.values())


def summary(plan):
  """Returns the parts of a plan that are not empty, in ids."""
  found = {
    'new': [task.id for task in plan.new],
    'changed': [task.id for task in plan.changed],
    'moved': [(former.id, now.id) for former, now in plan.moved],
    'touched': [source.id for source in plan.touched],
    'gone': [source.id for source in plan.gone],
    'lost': [s.id for few in plan.lost.values() for s in few],
    'unread': [s.id for few in plan.unread.values() for s in few],
    'removed': plan.removed,
    'unreadable': [bad.reason for bad in plan.unreadable],
    'unchanged': plan.unchanged,
  }
  return {key: value for key, value in found.items() if value}


def compared(known, *places, memory=None, **options):
  return summary(
    compare(list_videos(places), known, memory or Memory(), **options)
  )


def test_first_and_second_run(disk):
  folder, known = disk
  assert [s.id for s in known] == ['a.mp4', 'b.mp4', 'in/c.mov']
  assert compared(known, folder) == {'unchanged': 3}
  write(folder / 'new.mkv', b'new')
  assert compared(known, folder) == {'new': ['new.mkv'], 'unchanged': 3}


def test_moved_touched_changed_and_gone(disk):
  folder, known = disk
  (folder / 'a.mp4').rename(folder / 'in' / 'renamed.mp4')
  os.utime(folder / 'b.mp4', ns=(1, 1))
  write(folder / 'in' / 'c.mov', b'another')
  assert compared(known, folder) == {
    'moved': [('a.mp4', 'in/renamed.mp4')],
    'touched': ['b.mp4'],
    'changed': ['in/c.mov'],
    'unchanged': 1,
  }
  (folder / 'b.mp4').unlink()
  assert compared(known, folder)['gone'] == ['b.mp4']


def test_two_files_change_places(disk):
  folder, known = disk
  (folder / 'a.mp4').rename(folder / 'x')
  (folder / 'b.mp4').rename(folder / 'a.mp4')
  (folder / 'x').rename(folder / 'b.mp4')
  found = compared(known, folder)
  assert sorted(found['moved']) == [('a.mp4', 'b.mp4'), ('b.mp4', 'a.mp4')]
  assert found == {'moved': found['moved'], 'unchanged': 1}


def test_a_new_file_takes_the_place_of_one_that_moved(disk):
  folder, known = disk
  (folder / 'a.mp4').rename(folder / 'old.mp4')
  write(folder / 'a.mp4', b'new content')
  assert compared(known, folder) == {
    'moved': [('a.mp4', 'old.mp4')],
    'new': ['a.mp4'],
    'unchanged': 2,
  }


def test_a_file_takes_the_place_of_another_one(disk):
  folder, known = disk
  (folder / 'a.mp4').rename(folder / 'b.mp4')
  assert compared(known, folder) == {
    'moved': [('a.mp4', 'b.mp4')],
    'gone': ['b.mp4'],
    'unchanged': 1,
  }


def test_a_copy_is_new_and_stays_when_the_first_file_goes(disk):
  folder, known = disk
  write(folder / 'copy.mp4', (folder / 'a.mp4').read_bytes())
  assert compared(known, folder) == {'new': ['copy.mp4'], 'unchanged': 3}
  known = sources(folder, known=known)
  (folder / 'a.mp4').unlink()
  assert compared(known, folder) == {'gone': ['a.mp4'], 'unchanged': 3}


def test_a_renamed_folder_is_found_under_its_new_name(disk, tmp_path):
  folder, known = disk
  folder.rename(tmp_path / 'films')
  found = compared(known, folder, tmp_path / 'films')
  assert found == {
    'moved': [('a.mp4', 'a.mp4'), ('b.mp4', 'b.mp4'), ('in/c.mov', 'in/c.mov')]
  }


@pytest.mark.parametrize('is_there', [True, False])
def test_a_disk_that_is_not_mounted_takes_no_video_with_it(
  is_there, disk, tmp_path
):
  folder, known = disk
  write(tmp_path / 'other' / 'a.mp4', b'of another folder')
  known = sources(folder, tmp_path / 'other', known=known)
  folder.rename(tmp_path / 'hidden')
  if is_there:
    folder.mkdir()
  lost = {'lost': ['a.mp4', 'b.mp4', 'in/c.mov'], 'unchanged': 1}
  assert compared(known, folder, tmp_path / 'other') == lost
  told = compared(known, folder, tmp_path / 'other', take_out_lost=True)
  assert told == {'gone': lost['lost'], 'unchanged': 1}


def test_a_folder_that_cannot_be_read_takes_no_video_with_it(disk):
  folder, known = disk
  listing = list_videos([folder])
  hidden = dataclasses.replace(
    listing, files=listing.files[:2], unread=[folder / 'in']
  )
  for take_out in (False, True):
    plan = compare(hidden, known, Memory(), take_out_lost=take_out)
    assert summary(plan) == {'unread': ['in/c.mov'], 'unchanged': 2}


@pytest.mark.parametrize('is_there', [True, False])
def test_a_folder_inside_that_is_empty_keeps_its_videos(is_there, disk):
  folder, known = disk
  (folder / 'in' / 'c.mov').unlink()
  if not is_there:
    (folder / 'in').rmdir()
  kind = 'lost' if is_there else 'gone'
  assert compared(known, folder) == {kind: ['in/c.mov'], 'unchanged': 2}
  told = compared(known, folder, take_out_lost=True)
  assert told == {'gone': ['in/c.mov'], 'unchanged': 2}


def test_a_link_to_a_file_that_is_away_takes_no_video_with_it(disk, tmp_path):
  folder, _ = disk
  write(tmp_path / 'other' / 'd.mp4', b'd' * 9)
  (folder / 'd.mp4').symlink_to(tmp_path / 'other' / 'd.mp4')
  known = sources(folder)
  (tmp_path / 'other').rename(tmp_path / 'away')
  assert compared(known, folder) == {'lost': ['d.mp4'], 'unchanged': 3}
  assert compared(known, folder, take_out_lost=True)['gone'] == ['d.mp4']
  (tmp_path / 'away').rename(tmp_path / 'other')
  assert compared(known, folder) == {'unchanged': 4}


def test_what_was_removed_on_purpose_stays_out(disk):
  folder, known = disk
  memory = Memory()
  memory.removed['a.mp4'] = known[0]
  rest = known[1:]
  assert compared(rest, folder, memory=memory) == {
    'removed': ['a.mp4'],
    'unchanged': 2,
  }
  # It is known under another name, and with a changed content.
  (folder / 'a.mp4').rename(folder / 'z.mp4')
  assert compared(rest, folder, memory=memory)['removed'] == ['a.mp4']
  memory.restore(['a.mp4'])
  assert compared(rest, folder, memory=memory)['new'] == ['z.mp4']
  with pytest.raises(UserError, match='no video'):
    memory.restore(['a.mp4'])


def test_what_could_not_be_read_is_tried_again_when_it_changes(disk, tmp_path):
  folder, known = disk
  write(folder / 'bad.mp4', b'junk')
  path = str(folder / 'bad.mp4')
  memory = Memory(limits={'seconds': 9.0})
  memory.unreadable[path] = Unreadable(path, Stamp.of(path), 'is no video')
  memory.write(tmp_path)
  memory = Memory.read(tmp_path)
  assert compared(known, folder, memory=memory) == {
    'unreadable': ['is no video'],
    'unchanged': 3,
  }
  other = memory.with_limits({'seconds': 10.0})
  assert compared(known, folder, memory=other)['new'] == ['bad.mp4']
  write(folder / 'bad.mp4', b'another')
  assert compared(known, folder, memory=memory)['new'] == ['bad.mp4']


def test_a_damaged_memory_is_named(tmp_path):
  (tmp_path / 'archive').mkdir()
  (tmp_path / 'archive' / 'files.json').write_text('{"version": 1}')
  with pytest.raises(UserError, match=r'files\.json'):
    Memory.read(tmp_path)


def test_flipped_bits_of_the_memory_are_found(disk, tmp_path):
  folder, _ = disk
  path, file = str(folder / 'a.mp4'), tmp_path / 'archive' / 'files.json'
  memory = Memory(limits={'seconds': 9.0})
  memory.unreadable[path] = Unreadable(path, Stamp.of(path), 'is no video')
  memory.write(tmp_path)
  whole = file.read_bytes()
  for at in range(0, 8 * len(whole), 3):
    flipped = bytearray(whole)
    flipped[at // 8] ^= 1 << at % 8
    file.write_bytes(flipped)
    with pytest.raises(UserError, match=r'files\.json'):
      Memory.read(tmp_path)
  # Version 1 had no checksum.
  content = {**json.loads(whole), 'version': 1}
  del content['crc32c']
  file.write_text(json.dumps(content))
  assert Memory.read(tmp_path) == memory


def test_ids_are_paths_with_the_root_in_front_where_they_clash(tmp_path):
  files = [
    File(tmp_path / root / name, tmp_path / root)
    for root, name in (
      ('one', '2023/a.mp4'),
      ('one', '2024/a.mp4'),
      ('one', '2024/a.mov'),
      ('two', '2024/a.mp4'),
      ('deep/two', '2024/a.mp4'),
    )
  ]
  assert ids_of(files, []) == [
    '2023/a.mp4',
    '2024/a.mp4',
    '2024/a.mov',
    'two/2024/a.mp4',
    'deep/two/2024/a.mp4',
  ]
  assert ids_of(files[:1], ['2023/a.mp4']) == ['one/2023/a.mp4']


def test_ids_are_printable_text_in_one_form():
  assert name_of(pathlib.PurePath('cafe\u0301/a\nb.mp4')) == 'café/a%0Ab.mp4'
  assert name_of(pathlib.PurePath('caf\udce9.mp4')) == 'caf%E9.mp4'


def test_the_hash_sees_a_change_anywhere_in_small_files_and_at_the_ends(
  tmp_path,
):
  path = tmp_path / 'a'
  path.write_bytes(bytes(100))
  first = content_hash(path)
  path.write_bytes(bytes(50) + b'x' + bytes(49))
  assert content_hash(path) != first
  big = bytearray(3 << 20)
  path.write_bytes(big)
  first = content_hash(path)
  big[-1] = 1
  path.write_bytes(big)
  assert content_hash(path) != first
