"""Creating, changing and losing an index."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from dreamprvr_jax import folders
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.checksums import sealed
from dreamprvr_jax.archive.index.compaction import compact, remove
from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.errors import UserError
from tests.helpers.runs import ROOT
from tests.helpers.searching import made, retriever, videos_of

VIDEOS = 30


@pytest.fixture(scope='module')
def data():
  return made(VIDEOS, 9)


@pytest.fixture
def place(data, tmp_path):
  writer.create(tmp_path / 'index', retriever(), videos_of(data))
  return tmp_path / 'index'


def found(folder, data):
  hits = Index.open(folder, retriever()).search(data['words'], k=VIDEOS)
  return [
    [(hit.video_id, round(hit.score, 5), hit.timeline.tolist()) for hit in row]
    for row in hits
  ]


def segments(folder):
  return sorted(path.name for path in (folder / 'segments').iterdir())


def test_append_and_remove_equal_an_index_made_at_once(data, tmp_path):
  rows = np.arange(VIDEOS)
  parts = tmp_path / 'parts'
  writer.create(parts, retriever(), videos_of(data, rows[:11]))
  first = segments(parts)
  writer.append(parts, retriever(), videos_of(data, rows[11:14]))
  writer.append(parts, retriever(), videos_of(data, rows[14:]))
  remove(parts, ['v3', 'v12'])
  remove(parts, ['v29'])
  left = rows[~np.isin(rows, [3, 12, 29])]
  once = tmp_path / 'once'
  writer.create(once, retriever(), videos_of(data, left))
  assert found(parts, data) == found(once, data)
  # The first videos were not rewritten.
  assert set(first) < set(segments(parts))
  assert Store(parts).manifest.num_videos == VIDEOS - 3
  # A removed video can be added again, now at the end.
  writer.append(parts, retriever(), videos_of(data, [12]))
  again = tmp_path / 'again'
  writer.create(again, retriever(), videos_of(data, [*left, 12]))
  assert found(parts, data) == found(again, data)


def test_a_segment_without_videos_goes(data, place):
  writer.append(place, retriever(), videos_of(data_of_others(), [40, 41]))
  assert len(segments(place)) == 2
  remove(place, ['v40', 'v41'])
  assert len(Store(place).manifest.segments) == 1
  assert len(segments(place)) == 2  # For readers of the old manifest.
  remove(place, [f'v{i}' for i in range(VIDEOS)])
  assert len(segments(place)) == 1
  compact(place)
  assert segments(place) == []
  with pytest.raises(UserError, match='has no videos; add some'):
    Index.open(place, retriever()).search(data['words'])
  writer.append(place, retriever(), videos_of(data))
  assert len(found(place, data)[0]) == VIDEOS


def test_who_read_the_former_manifest_still_opens_its_segments(
  data, place, monkeypatch
):
  former = Manifest.read(place)
  writer.create(place, retriever(), videos_of(data, [1, 2]))
  with monkeypatch.context() as patch:
    patch.setattr(Manifest, 'read', classmethod(lambda *_: former))
    assert len(Store(place).ids) == VIDEOS
  # The next change deletes them.
  remove(place, ['v1'])
  assert len(segments(place)) == 1


def data_of_others():
  return made(50, 1, seed=1)


def test_an_index_is_made_again(data, place):
  former = Index.open(place, retriever())
  former.search(data['words'], k=1)
  writer.create(place, retriever(), videos_of(data, [1, 2]))
  assert len(found(place, data)[0]) == 2
  # A process that opened the old index can still use it.
  assert len(former.search(data['words'], k=VIDEOS)[0]) == VIDEOS


STOPPED = """if True:
  import os, signal, sys
  import numpy as np
  from dreamprvr_jax import folders
  from dreamprvr_jax.archive.index import writer
  from tests.helpers.searching import made, retriever, videos_of
  place, how, when = sys.argv[1:]
  data = made(30, 9)
  def end(*_):
    os.kill(os.getpid(), signal.SIGKILL)
  if when == 'manifest':
    folders.write_text = end
  videos = videos_of(data, [25, 26, 27, 28, 29], batch=2)
  if when == 'tokens':
    whole = videos.batches
    def batches():
      for number, batch in enumerate(whole()):
        if number == 2:
          end()
        yield batch
    object.__setattr__(videos, 'batches', batches)
  getattr(writer, how)(place, retriever(), videos)
"""


@pytest.mark.parametrize('when', ['tokens', 'manifest'])
@pytest.mark.parametrize('how', ['create', 'append'])
def test_a_kill_leaves_the_index_as_it_was(how, when, data, tmp_path):
  place = tmp_path / 'index'
  writer.create(place, retriever(), videos_of(data, range(25)))
  before = found(place, data)
  ended = subprocess.run(
    [sys.executable, '-c', STOPPED, place, how, when],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert ended.returncode == -signal.SIGKILL, ended.stderr
  assert len(segments(place)) == 2
  assert found(place, data) == before
  # The next write deletes its remains.
  writer.append(place, retriever(), videos_of(data, range(25, 30)))
  assert len(segments(place)) == 2
  assert len(found(place, data)[0]) == VIDEOS


def test_an_error_leaves_the_index_as_it_was(data, place):
  before = found(place, data)
  bad = {**data, 'clips': data['clips'] * np.float32(1e6)}
  for write in (writer.create, writer.append):
    videos = videos_of(bad, [3])
    object.__setattr__(videos, 'ids', ['new'])
    with pytest.raises(UserError, match=r'clip tokens .* not finite'):
      write(place, retriever(), videos)
    assert len(segments(place)) == 1
  assert found(place, data) == before


def test_what_is_refused(data, place, tmp_path):
  videos = videos_of(data, [3])
  with pytest.raises(UserError, match="has the video 'v3' already"):
    writer.append(place, retriever(), videos)
  with pytest.raises(UserError, match=r"no video 'x'.*nothing was removed"):
    remove(place, ['v1', 'x'])
  assert Store(place).manifest.num_videos == VIDEOS
  with pytest.raises(UserError, match='was made with the checkpoint'):
    writer.append(place, retriever(digest='other'), videos)
  with pytest.raises(UserError, match='comes twice'):
    writer.create(place, retriever(), videos_of(data, [3, 3]))
  with pytest.raises(UserError, match='no video to index'):
    writer.create(place, retriever(), videos_of(data, []))
  with pytest.raises(UserError, match='tokens=float8 is unknown'):
    writer.create(place, retriever(), videos, tokens='float8')
  (tmp_path / 'photos').mkdir()
  (tmp_path / 'photos/me.jpg').touch()
  with pytest.raises(UserError, match='holds other files'):
    writer.create(tmp_path / 'photos', retriever(), videos)
  narrow = made(4, 1, frames=3)
  remove(place, ['v3'])
  with pytest.raises(UserError, match=r"'frames': 5.* per row.*'frames': 3"):
    writer.append(place, retriever(), videos_of(narrow, [3]))


def test_one_writer_at_a_time(data, place):
  with folders.held(place, 'index'):
    holder = f'in use by another command .process {os.getpid()} on '
    with pytest.raises(UserError, match=holder):
      remove(place, ['v1'])


def test_damage_is_named(data, place):
  (segment,) = (place / 'segments').iterdir()
  path = segment / 'frame_tokens.npy'
  whole = path.read_bytes()
  path.write_bytes(whole[:-10])
  with pytest.raises(UserError, match=r'frame_tokens\.npy cannot be read'):
    Store(place)
  np.save(path, np.zeros((2, 3)))
  with pytest.raises(UserError, match='float64 of shape'):
    Store(place)
  path.unlink()
  with pytest.raises(UserError, match=r'frame_tokens\.npy is missing'):
    Store(place)
  path.write_bytes(whole)
  (segment / 'ids.json').write_text('["v1"]')
  with pytest.raises(UserError, match='has 1 ids where 30 were'):
    Store(place)


def test_bad_manifests(place, tmp_path):
  with pytest.raises(UserError, match='is no index'):
    Store(tmp_path)
  path = place / 'manifest.json'
  content = json.loads(path.read_text())
  for change, sentence in (
    ({'version': 5}, 'is of version 5'),
    ({'tokens': 'float8'}, 'no manifest of an index'),
    ({'segments': [{}]}, 'no manifest of an index'),
    ({'colour': 'red'}, 'no manifest of an index'),
  ):
    path.write_text(sealed(content | change))
    with pytest.raises(UserError, match=sentence):
      Store(place)
  path.write_text('{')
  with pytest.raises(UserError, match='no manifest of an index'):
    Store(place)
