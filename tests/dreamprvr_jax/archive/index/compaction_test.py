"""An index that is rewritten without its removed videos."""

import os
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from dreamprvr_jax.archive.index import compaction, writer
from dreamprvr_jax.archive.index.compaction import compact, remove
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.index import Index
from dreamprvr_jax.errors import UserError
from tests.helpers.runs import ROOT
from tests.helpers.searching import made, retriever, videos_of

VIDEOS = 30


@pytest.fixture(scope='module')
def data():
  return made(VIDEOS, 9)


def found(folder, data):
  hits = Index.open(folder, retriever()).search(data['words'], k=20)
  return [
    [(hit.video_id, round(hit.score, 5), hit.timeline.tolist()) for hit in row]
    for row in hits
  ]


def size(folder):
  return sum(path.stat().st_size for path in folder.rglob('*_*.npy'))


@pytest.mark.parametrize('tokens', ['float16', 'float16+int8'])
def test_the_search_is_the_same(tokens, data, tmp_path, monkeypatch):
  monkeypatch.setattr(compaction, '_SMALL', 0)
  place, rows = tmp_path / 'x', np.arange(VIDEOS)
  writer.create(place, retriever(), videos_of(data, rows[:20]), tokens=tokens)
  writer.append(place, retriever(), videos_of(data, rows[20:]))
  whole = Store(place).manifest.segments[1]
  remove(place, [f'v{i}' for i in range(4, 12)])
  before, room = found(place, data), size(place)
  manifest = compact(place)
  assert found(place, data) == before
  assert size(place) < room
  assert [s.videos for s in manifest.segments] == [12, 10]
  assert not any(s.removed for s in manifest.segments)
  assert manifest.segments[1] == whole
  assert len(list((place / 'segments').iterdir())) == 2
  # Nothing is left to do, and removed videos can be added again.
  assert compact(place) == manifest
  writer.append(place, retriever(), videos_of(data, [5]))
  assert 'v5' in Store(place).rows_of()


STOPPED = """if True:
  import os, signal, sys
  from dreamprvr_jax import folders
  from dreamprvr_jax.archive.index.compaction import compact
  def end(*_):
    os.kill(os.getpid(), signal.SIGKILL)
  folders.write_text = end
  compact(sys.argv[1])
"""


def test_a_kill_leaves_the_index_as_it_was(data, tmp_path):
  place = tmp_path / 'x'
  writer.create(place, retriever(), videos_of(data))
  remove(place, ['v3'])
  before = found(place, data)
  ended = subprocess.run(
    [sys.executable, '-c', STOPPED, place],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert ended.returncode == -signal.SIGKILL, ended.stderr
  assert len(list((place / 'segments').iterdir())) == 2
  assert found(place, data) == before
  compact(place)
  assert len(list((place / 'segments').iterdir())) == 1
  assert found(place, data) == before


def test_there_has_to_be_an_index(tmp_path):
  with pytest.raises(UserError, match='is no index'):
    compact(tmp_path / 'x')
  assert not (tmp_path / 'x').exists()


def test_memory_is_bounded(tmp_path, monkeypatch):
  """Rows are copied a few at a time, whatever the size of the index."""
  monkeypatch.setattr(compaction, '_BATCH', 16)
  rows = {
    'clip_tokens': np.ones((64, 4, 1024), np.float32),
    'frame_tokens': np.ones((64, 4, 1024), np.float32),
    'frame_mask': np.ones((64, 4), bool),
    'clip_edges': np.ones((64, 5), np.float32),
    'frame_edges': np.ones((64, 5), np.float32),
    'starts': np.zeros(64),
    'durations': np.ones(64),
    'cores': np.ones((64, 2), np.float32),
  }
  with writer.open_segment(tmp_path, retriever()) as segment:
    for number in range(20):
      segment.add(f'v{number}', [rows])
  remove(tmp_path, ['v3'])
  arrays = size(tmp_path)
  tracemalloc.start()
  compact(tmp_path)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert arrays > 2**24
  # A batch has a quarter of a MiB.
  assert peak < 2**21
