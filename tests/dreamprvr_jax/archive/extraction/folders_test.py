"""Realistic folders: links, names that are not text, unusual files."""

import json
import os

import pytest

from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.extraction.jobs import Options, extract_folder
from dreamprvr_jax.archive.videos.finding import find_videos
from tests.helpers.videos import make_video

pytest.importorskip('av', reason='videos are decoded with PyAV')
ENCODER = encoders.build('embedded')


def below(folder):
  return {k: str(v.relative_to(folder)) for k, v in find_videos(folder).items()}


def test_linked_folders_are_read_once(tmp_path, caplog):
  videos, other = tmp_path / 'videos', tmp_path / 'other'
  for path in ('videos/a.mp4', 'videos/in/b.mp4', 'other/c.mp4', 'other/d.mp4'):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).touch()
  for link, target in {
    'disk2': '../other',
    'again': '../other',
    'inside': 'in',
    'self': '.',
    'in/up': '..',
    'in/out': '../..',
    'nowhere': '../gone',
    'loop': 'loop',
    'in/c.mp4': '../../other/c.mp4',
    'lost.mp4': 'gone.mp4',
  }.items():
    (videos / link).symlink_to(target)
  (other / 'back').symlink_to(videos)
  (other / 'root').symlink_to('/')
  assert below(videos) == {
    'a': 'a.mp4',
    'b': 'in/b.mp4',
    'c': 'again/c.mp4',
    'd': 'again/d.mp4',
  }
  said = {
    record.getMessage().removeprefix(f'{videos}/') for record in caplog.records
  }
  assert said == {
    'in/out is passed over: it leads to a folder that contains it',
    'again/root is passed over: it leads to a folder that contains it',
    'lost.mp4 is passed over: it leads nowhere',
  }
  (tmp_path / 'link').symlink_to(videos)
  assert set(find_videos(tmp_path / 'link')) == {'a', 'b', 'c', 'd'}


@pytest.mark.parametrize('workers', [1, 2])
def test_names_that_are_no_text(workers, tmp_path):
  videos = os.fsencode(tmp_path) + b'/in'
  os.makedirs(videos + b'/\xfcber')
  good = make_video(tmp_path / 'good.mp4').read_bytes()
  for name, content in {
    b'/good.mp4': good,
    b'/caf\xe9.mp4': good,
    b'/caf\xe8.mp4': good,
    b'/\xfcber/bad\xff.mp4': b'no video',
  }.items():
    with open(videos + name, 'wb') as file:
      file.write(content)
  folder = tmp_path / 'out'
  options = Options(workers=workers, progress=False)
  found = extract_folder(os.fsdecode(videos), folder, ENCODER, options)
  durations = json.loads((folder / 'durations.json').read_text('utf-8'))
  assert found.durations == durations == dict.fromkeys(durations, 2.0)
  assert set(durations) == {'good', 'caf%E9', 'caf%E8'}
  assert set(found.skipped) == {'bad%FF'}
  again = extract_folder(os.fsdecode(videos), folder, ENCODER, options)
  assert (again.done, again.there, set(again.skipped)) == (0, 3, {'bad%FF'})
