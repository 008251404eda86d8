"""The table and the picture of searches."""

import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BATCH = {'p50_ms': 1200.04, 'p99_ms': 2000.0, 'queries_per_second': 1.0}
KIND = {'recall_at_10': 0.987, 'batch_1': BATCH, 'batch_64': BATCH}
ARCHIVE = '20,000 videos of 160 tokens'


@pytest.fixture
def report(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / 'benchmarks')
  return importlib.import_module('search_report')


def line(row, **more):
  kinds = {
    kind: {**KIND, 'alone': BATCH, 'share_of_bandwidth': 0.5}
    for kind in ('near', 'gap', 'hard')
  }
  sizes = {'build_seconds': 1234.5, 'memory_bytes': 245760, 'disk_bytes': 7}
  return {'archive': ARCHIVE, 'row': row, 'kinds': kinds, **sizes, **more}


def test_table(report):
  lines = [
    line('faiss_ivf_rabitq1', probes=128, rescored=100),
    {'archive': ARCHIVE, 'row': 'lancedb', 'left_out': 'is not installed'},
    {**line('exact'), 'archive': 'another'},
  ]
  found = report.table(lines).splitlines()
  assert found[0] == f'**{ARCHIVE}**; recall of near, gap, hard queries:'
  assert found[4] == (
    '| faiss_ivf_rabitq1, 128 + 100 | .987 .987 .987 | 1,200 | 2,000 | '
    '1,200 | 1,200 | 2,000 | 245,760 | 7 | 1,234 | 0.50 |'
  )
  assert found[6] == 'Left out: lancedb: is not installed.'
  assert found[8].startswith('**another**')
  # What the docs allow.
  assert max(map(len, found)) <= 120


def test_picture(report, tmp_path):
  pytest.importorskip('matplotlib')
  lines = [line('exact'), line('faiss_flat', rescored=100)]
  lines.append({'archive': ARCHIVE, 'row': 'lists', 'left_out': 'x'})
  report.plot(lines, tmp_path / 'a' / 'plot.png')
  assert (tmp_path / 'a' / 'plot.png').read_bytes().startswith(b'\x89PNG')


def test_docs_are_up_to_date(report):
  text = report.DOCS.read_text()
  assert report.START in text
  assert text == report.with_table(text)
