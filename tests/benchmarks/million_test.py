"""The large benchmark, at a toy size."""

import argparse
import importlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ('--videos=300', '--clips=2', '--frames=6', '--width=32')


def has_lists():
  """Returns whether this version can make lists here."""
  return bool(
    importlib.util.find_spec('faiss')
    and importlib.util.find_spec('dreamprvr_jax.archive.lists')
  )


@pytest.mark.long
def test_a_few_videos(tmp_path):
  out = tmp_path / 'million.jsonl'
  how = 'lists' if has_lists() else 'none'
  done = subprocess.run(
    [
      *(sys.executable, 'benchmarks/million.py', *SMALL, '--queries=20'),
      f'--first_pass={how}',
      '--recall=0.9',
      f'--index={tmp_path / "made"}',
      f'--out={out}',
    ],
    cwd=ROOT,
    env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert not done.returncode, done.stderr
  line = json.loads(out.read_text())
  # The tokens are stored as int8, and NumPy reads the same.
  assert line['recall_at_10'] > (0.8 if has_lists() else 0.999)
  assert line['write']['stored_bytes_per_video'] > 8 * 32
  assert 0.05 < line['build_peak_gib'] < 4
  assert line['search']['moments_of_a_hit'] >= 1
  assert line['search']['batch_1_with_moments']['p50_ms'] > line['p50_ms'] > 0
  assert line['search']['batch_1_without_copies']['p50_ms'] > line['p50_ms']
  assert '(at least 0.98)' in done.stderr
  assert str(tmp_path) not in line['command']


@pytest.fixture
def million(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / 'benchmarks')
  return importlib.import_module('million')


def test_finished_parts_are_not_run_again(million, monkeypatch, tmp_path):
  called = []

  def stream(module, name, options, *, seconds):
    called.append(name)
    if name == 'answer' and called.count('answer') == 1:
      raise million.LeftOutError('stopped')
    yield {'call': len(called)}

  monkeypatch.setattr(million, 'stream', stream)
  command = ['million.py', f'--index={tmp_path}']
  monkeypatch.setattr(sys, 'argv', command)
  options = million.parsed()
  assert isinstance(options, argparse.Namespace)
  with pytest.raises(million.LeftOutError, match='stopped'):
    million.parts(options)
  found = million.parts(options)
  assert called == ['write', 'lists', 'answer', 'answer', 'search']
  assert found['lists'] == {'call': 2}
  # What is measured last is measured again.
  assert million.parts(options)['search'] == {'call': 6}
  monkeypatch.setattr(sys, 'argv', [*command, '--seed=1'])
  with pytest.raises(SystemExit, match='give another --index'):
    million.parts(million.parsed())


def test_figures_of_the_bars(million):
  memory = lambda gib: {'gib': {'peak': gib, 'anonymous': 1.0, 'file': 0.1}}
  times = {'p50_ms': 90.0, 'p99_ms': 200.0}
  found = {
    'write': {'made_seconds': 500.0, 'write_seconds': 300.0, **memory(1.5)},
    'lists': {'lists_seconds': 900.0, **memory(6.5)},
    'search': {'recall_at_10': 0.985, 'batch_1': times, **memory(5.0)},
  }
  assert million.against_bars(found) == {
    # The time in which the tokens were made is apart.
    'build_minutes': 20.0,
    'build_peak_gib': 6.5,
    'search_peak_gib': 5.0,
    'recall_at_10': 0.985,
    **times,
  }
