"""Where the time of a command went: stages that do not overlap."""

import importlib
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def startup(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / 'benchmarks')
  return importlib.import_module('startup')


@pytest.fixture
def child(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / 'benchmarks')
  return importlib.import_module('startup_child')


def test_a_moment_counts_once(child):
  stages = child.Stages()
  stages.began = 100.0
  stages.add('opening', 101, 106)
  stages.add('tracing', 102, 105)
  stages.add('tracing', 103, 104)
  stages.add('importing', 101, 102.5)
  stages.add('compiling', 104, 105)
  # After the end.
  stages.add('tracing', 112, 113)
  found = stages.seconds(110.0)
  assert found == {
    'compiling': 1,
    'lowering': 0,
    'importing': 1.5,
    'tracing': 1.5,
    'opening': 1,
    'running': 5,
  }
  assert sum(found.values()) == 10


def test_help_needs_no_jax(startup, tmp_path):
  row = startup.measure(['--help'], tmp_path)
  parts = sum(row[name] for name in startup.STAGES)
  assert row['total'] == pytest.approx(parts, abs=0.05)
  assert row['importing'] > 0
  assert row['programs'] == row['loaded'] == 0
  assert 'total' in startup.table([{'case': 'help', 'run': 1, **row}])
  assert not list(tmp_path.iterdir())


def test_a_command_that_fails_ends_it(startup, tmp_path):
  with pytest.raises(SystemExit, match='is not a command'):
    startup.measure(['seek'], tmp_path)


def test_cases(startup, monkeypatch, capsys):
  line = ['startup.py', '--cases=help', '--runs=1']
  monkeypatch.setattr(sys, 'argv', line)
  startup.main()
  assert '| help | 1 |' in capsys.readouterr().out
  monkeypatch.setattr(sys, 'argv', ['startup.py', '--cases=sleep'])
  with pytest.raises(SystemExit):
    startup.main()
