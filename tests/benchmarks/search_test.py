"""The benchmark of searches, at toy sizes."""

import importlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
  '--width=32',
  '--queries=20',
  '--seconds=0.05',
  '--found=200',
  '--depth=40',
  '--probes=2,8',
)


def run(*options):
  """Returns (JSON lines, printed text) of the benchmark."""
  done = subprocess.run(
    [sys.executable, 'benchmarks/search.py', *SMALL, *options],
    cwd=ROOT,
    env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert not done.returncode, done.stderr
  lines = done.stdout.splitlines()
  return [json.loads(x) for x in lines if x.startswith('{')], done.stdout


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('archives')


@pytest.fixture
def report(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / 'benchmarks')
  return importlib.import_module('search_report')


@pytest.mark.long
def test_rows_of_a_made_archive(folder, report):
  lines, text = run(
    '--videos=120',
    '--tokens=20',
    '--steps=0',
    '--rows=exact,int8,lancedb',
    f'--folder={folder}',
    f'--plot={folder / "plot.png"}',
  )
  found = {line['row']: line for line in lines}
  exact = found['exact']['kinds']
  assert set(exact) == {'near', 'gap', 'hard'}
  # Plain NumPy finds the same videos.
  assert all(kind['recall_at_10'] == 1 for kind in exact.values())
  assert found['int8']['kinds']['hard']['recall_at_10'] > 0.9
  assert exact['hard']['batch_1']['p50_ms'] > 0
  assert exact['hard']['share_of_bandwidth'] > 0
  assert found['exact']['memory_bytes'] == 20 * 32 * 4
  assert found['exact']['of']['clips'] == 4
  # The folder is no part of the command that the docs show.
  assert str(folder) not in found['exact']['command']
  assert '| exact | 1.000 1.000 1.000 |' in text
  if importlib.util.find_spec('lancedb') is None:
    assert 'lancedb' in found['lancedb']['left_out']
    assert f'Left out: lancedb: {found["lancedb"]["left_out"]}' in text
  assert (folder / 'plot.png').read_bytes().startswith(b'\x89PNG')
  assert report.table(lines).splitlines()[0].startswith('**120 videos of 20')


@pytest.mark.long
def test_rows_of_faiss(folder):
  pytest.importorskip('faiss')
  lines, _ = run(
    '--videos=120',
    '--tokens=20',
    '--steps=0',
    '--rows=faiss_flat,faiss_ivf_rabitq1',
    f'--folder={folder}',
  )
  assert len(lines) == 2 + 2 * 2
  name = lambda line: (line['row'], line.get('probes'), 'rescored' in line)
  recall = {name(x): x['kinds']['near']['recall_at_10'] for x in lines}
  assert recall['faiss_flat', None, True] > 0.95
  rabitq = lambda *settings: recall['faiss_ivf_rabitq1', *settings]
  # More lists find more, and exact scores rank it better.
  assert rabitq(2, True) <= rabitq(8, True)
  assert rabitq(8, False) <= rabitq(8, True)
  assert lines[0]['kinds']['near']['alone']['p50_ms'] > 0


def test_a_row_that_needs_more_memory_than_it_is_given(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / 'benchmarks')
  rivals = importlib.import_module('search_rivals')
  needed = rivals.FAISS['faiss_flat'].bytes_of(2**20, 384)
  assert 1.5 < needed / 2**30 < 1.6
  rivals.require_memory(needed, 2 * 2**30)
  reason = r'needs about 1.5 GB of memory, more than --memory=1'
  with pytest.raises(rivals.LeftOutError, match=reason):
    rivals.require_memory(needed, 2**30)


@pytest.mark.slow
def test_text_queries_of_a_trained_model(tmp_path):
  lines, text = run(
    '--videos=', '--text_videos=12', '--steps=1', '--rows=exact,int8'
  )
  assert [list(line['kinds']) for line in lines] == [['text'], ['text']]
  assert lines[0]['kinds']['text']['recall_at_10'] == 1
  assert lines[0]['of']['training_steps'] == 1
  assert '12 encoded videos' in text


def test_exact_answers_are_those_of_whole_videos(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / 'benchmarks')
  archives = importlib.import_module('search_archives')
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, np.float32)
  queries, clips, frames = draw(3, 8), draw(150, 2, 8), draw(150, 5, 8)
  real = np.arange(5) < rng.integers(1, 6, (150, 1))
  model = archives.retriever_of_made(8).model
  best = archives.Best(queries, model)
  for first in (0, 100):
    few = slice(first, first + 100)
    best.add(first, clips[few], frames[few], real[few])

  def cosines(tokens):
    sizes = np.linalg.norm(tokens, axis=-1) * np.linalg.norm(
      queries, axis=-1
    ).reshape(-1, 1, 1)
    return np.einsum('nd,vtd->nvt', queries, tokens) / sizes

  found = np.where(real, cosines(frames), -1).max(axis=2)
  scores = model.clip_weight * cosines(clips).max(axis=2)
  scores += model.frame_weight * found
  order = np.argsort(-scores, axis=1)[:, :10]
  np.testing.assert_array_equal(best.rows, order)
  np.testing.assert_allclose(
    best.scores, np.take_along_axis(scores, order, axis=1), rtol=1e-5
  )
