"""Changes of an index that are killed leave it as before or as after."""

import collections
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.helpers.runs import ROOT


def killed(folder, seed, kills, how):
  """Returns what came of some kills; see `killed_index`."""
  ended = subprocess.run(
    [
      *(sys.executable, '-m', 'tests.helpers.killed_index'),
      *map(str, (folder, seed, kills, how)),
    ],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert ended.returncode == 0, ended.stderr
  return [json.loads(line) for line in ended.stdout.splitlines()]


def check(rows):
  for row in rows:
    assert row['state'] in ('before', 'after'), row
    # The next commands succeed, and nothing is left over.
    assert row['again'] in ('none', 'after'), row
    assert row['left'] == [], row


def test_a_few_kills(tmp_path):
  rows = killed(tmp_path, 0, 7, 'line')
  check(rows)
  assert all(row['code'] == -signal.SIGKILL for row in rows)
  assert len({row['change'] for row in rows}) == 7


@pytest.mark.slow
@pytest.mark.parametrize(('how', 'kills'), [('line', 56), ('clock', 140)])
def test_kills_at_random_moments(how, kills, tmp_path):
  """At any line of the code, or at any time as another process sees it."""
  rows = killed(tmp_path, 1, kills, how)
  check(rows)
  # Some changes end before the clock does, more of them on a busy machine.
  hit = [row for row in rows if row['code'] == -signal.SIGKILL]
  assert len(hit) >= 50
  states = collections.Counter(row['state'] for row in hit)
  print(how, len(hit), 'kills:', dict(states))
  assert how == 'clock' or states['after'] > 0
