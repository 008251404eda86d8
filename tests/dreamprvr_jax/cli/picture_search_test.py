"""Search of a folder by pictures and clips, and what people ask of hits."""

import json
import os
import pathlib
import shutil

import av
import numpy as np
import pytest
from PIL import Image

from dreamprvr_jax.archive.search.filters import Filters
from dreamprvr_jax.archive.search.index import Index
from tests.helpers.commands import call
from tests.helpers.videos import make_video, scene

VIDEOS = 14
SIZE = (48, 64)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A folder of small videos with an identical copy and one that was encoded
  again, and an index of it."""
  root = tmp_path_factory.mktemp('archive')
  for number in range(VIDEOS):
    folder = root / 'videos' / ('old' if number % 2 else 'new')
    folder.mkdir(parents=True, exist_ok=True)
    make_video(
      folder / f'v{number}.mp4',
      pictures=40 if number != 3 else 80,
      size=SIZE,
      draw=scene(number),
    )
  first = root / 'videos' / 'new' / 'v0.mp4'
  shutil.copy(first, root / 'videos' / 'same.mp4')
  make_video(
    root / 'videos' / 'again.mkv',
    pictures=40,
    key_frames=3,
    size=SIZE,
    draw=scene(0),
  )
  assert (
    call(
      '--mode=index',
      f'--videos={root / "videos"}',
      f'--index={root / "index"}',
      '--encoder=embedded',
      '--retriever=best_frame',
      '--noprogress',
    )
    == 0
  )
  return root


@pytest.fixture
def search(place, tmp_path):
  def run(*flags):
    out = tmp_path / 'found.json'
    code = call(
      '--mode=search',
      f'--index={place / "index"}',
      f'--out={out}',
      '--noprogress',
      *flags,
    )
    assert code == 0
    (query,) = json.loads(out.read_text())['queries']
    return query['hits']

  return run


@pytest.fixture(scope='module')
def picture(place):
  """A picture of the third second of v5."""
  path = place / 'picture.png'
  Image.fromarray(scene(5)(25, *SIZE)).save(path)
  return path


def test_a_picture_finds_its_video_and_when(search, picture):
  hits = search(f'--image={picture}', '--k=3')
  best = hits[0]
  assert best['video'] == 'old/v5.mp4'
  assert best['strength'] == 'strong'
  assert best['moments'][0]['start'] <= 2.5 <= best['moments'][0]['end']
  assert best['file']['title'] == 'v5.mp4'
  assert best['file']['folder'] == 'old'
  assert {hit['strength'] for hit in hits[1:]} == {'none'}


def test_a_picture_whose_name_is_no_text(picture, place, tmp_path, capsys):
  name = os.fsencode(tmp_path) + b'/caf\xe9.png'
  shutil.copy(picture, name)
  index = f'--index={place / "index"}'
  flags = f'--image={os.fsdecode(name)}', '--k=1', '--noprogress'
  assert call('--mode=search', index, *flags) == 0
  assert 'caf%E9.png' in capsys.readouterr().out


def test_a_clip_finds_its_video(search, place):
  flags = f'--clip={place}/videos/new/v6.mp4', '--span=1-3'
  best = search(*flags)[0]
  assert best['video'] == 'new/v6.mp4'
  start, end = (best['moments'][0][key] for key in ('start', 'end'))
  assert min(end, 3) - max(start, 1) > 0.9


def test_copies_are_one_hit(search, place):
  flags = (f'--clip={place}/videos/new/v0.mp4',)
  best, second = search(*flags, '--k=2')
  assert {best['video'], *best['others']} == {
    *('new/v0.mp4', 'same.mp4', 'again.mkv')
  }
  assert not second['others']
  apart = search(*flags, '--k=3', '--duplicates')
  assert {hit['video'] for hit in apart} == {best['video'], *best['others']}


def test_weak_hits_are_cut_off(search, picture, place, capsys):
  hits = search(f'--image={picture}', '--cutoff=strong')
  assert [hit['video'] for hit in hits] == ['old/v5.mp4']
  nothing = place / 'nothing.png'
  Image.fromarray(np.full((*SIZE, 3), 128, np.uint8)).save(nothing)
  flags = (f'--index={place / "index"}', f'--image={nothing}')
  assert call('--mode=search', *flags, '--cutoff=strong') == 0
  assert 'nothing fits' in capsys.readouterr().out


def test_conditions_on_files(search, picture):
  flags = f'--image={picture}', '--k=4'
  assert {hit['file']['folder'] for hit in search(*flags, '--folder=new')} == {
    'new'
  }
  assert len(search(*flags, '--folder=new')) == 4
  assert search(*flags, '--before=2000') == []
  assert len(search(*flags, '--after=2000')) == 4
  (long,) = search(*flags, '--min_seconds=6')
  assert long['video'] == 'old/v3.mp4'
  assert all(hit['duration'] < 5 for hit in search(*flags, '--max_seconds=5'))


def test_clips_are_saved(search, picture, tmp_path):
  hits = search(f'--image={picture}', '--k=2', f'--save_clips={tmp_path}/clips')
  assert [hit['clip'] for hit in hits] == [
    str(path) for path in sorted((tmp_path / 'clips').iterdir())
  ]
  best = hits[0]
  name = pathlib.Path(best['clip']).name
  moment = best['moments'][0]
  assert name == f'01 v5 {moment["start"]:.1f}-{moment["end"]:.1f}.mp4'
  with av.open(best['clip']) as container:
    images = [f.to_ndarray(format='rgb24') for f in container.decode(video=0)]
  assert len(images) == pytest.approx(
    10 * (moment['end'] - moment['start']), abs=6
  )
  expected = scene(5)(25, *SIZE).astype(int)
  assert min(np.abs(x - expected).mean() for x in images) < 8


@pytest.mark.parametrize(
  ('flags', 'problem'),
  [
    (('--query=a dog',), 'knows pictures and words, but not which words fit'),
    ((), 'there is nothing to search for; give --query='),
    (('--image=none.png',), '--image=none.png: there is no such file'),
    (('--image=x', '--query=y'), '--query and --image name two kinds'),
    (('--span=1-2',), '--span=1-2 is a stretch of --clip, which is not given'),
    (('--clip=x.mp4', '--span=2-1'), '--span=2-1 is no stretch of a video'),
    (('--image=x', '--cutoff=all'), '--cutoff=all: choose none, weak, strong'),
    (('--image=x', '--after=soon'), 'after=soon: this is no date'),
  ],
)
def test_what_cannot_work_is_refused(place, flags, problem, capsys):
  index = f'--index={place / "index"}'
  assert call('--mode=search', index, '--noprogress', *flags) == 2
  assert problem in capsys.readouterr().err


def test_the_library_takes_the_same(place, picture):
  index = Index.open(place / 'index')
  query = index.picture_queries.file(str(picture))
  (hits,) = index.search_encoded(
    query[None], k=2, filters=Filters(folder='old'), cutoff='none'
  )
  assert hits[0].video_id == 'old/v5.mp4'
  assert hits[0].file.path == str(place / 'videos/old/v5.mp4')
  assert hits[0].strength == 'strong'
