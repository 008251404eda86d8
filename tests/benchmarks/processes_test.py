"""A part of a benchmark that fails ends alone."""

import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import os, signal, time
from processes import LeftOutError

def counted(most, end):
  for number in range(most):
    yield number
  if end == 'killed':
    os.kill(os.getpid(), signal.SIGKILL)
  if end == 'slow':
    time.sleep(60)
  if end == 'broken':
    print(1 / 0)
  if end == 'absent':
    import no_such_library
  if end == 'refused':
    raise LeftOutError('too large')
"""


@pytest.fixture
def processes(monkeypatch, tmp_path):
  monkeypatch.syspath_prepend(ROOT / 'benchmarks')
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'counted_here.py').write_text(PROGRAM)
  return importlib.import_module('processes')


def test_what_is_yielded_arrives(processes):
  arrived = processes.stream('counted_here', 'counted', 3, '', seconds=60)
  assert list(arrived) == [0, 1, 2]


@pytest.mark.parametrize(
  ('end', 'seconds', 'reason'),
  [
    ('killed', 60, 'ended by signal 9'),
    ('slow', 3, 'stopped after 3 seconds'),
    ('broken', 60, 'ended with code 1; the reason is above'),
    ('absent', 60, "No module named 'no_such_library'"),
    ('refused', 60, 'too large'),
  ],
)
def test_ends(processes, end, seconds, reason):
  arrived = processes.stream('counted_here', 'counted', 1, end, seconds=seconds)
  assert next(arrived) == 0
  with pytest.raises(processes.LeftOutError, match=reason):
    next(arrived)


def test_memory_of_this_process(processes):
  found = processes.memory()
  assert found['peak'] >= found['anonymous'] > 2**20
  assert found['file'] > 0
