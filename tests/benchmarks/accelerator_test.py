"""The command measures every part, and goes on where one fails."""

import importlib
import json
import os
import pathlib
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
BENCHMARK = """
import os, time
from types import SimpleNamespace

def parsed(arguments):
  return SimpleNamespace(does=arguments[0], given=arguments[1:])

def figures(options):
  if options.does == 'slow':
    time.sleep(60)
  if options.does == 'killed':
    os.kill(os.getpid(), 9)
  if options.does == 'broken':
    raise RuntimeError('RESOURCE_EXHAUSTED: out of memory\\nand more')
  return {
    'float32_tflop_per_second': 3.5,
  }
"""


@pytest.fixture
def command(monkeypatch, tmp_path):
  monkeypatch.syspath_prepend(ROOT / 'benchmarks')
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'small_benchmark.py').write_text(BENCHMARK)
  # Read by the device's program, which is not started here.
  monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.9')
  return importlib.import_module('accelerator')


@pytest.fixture
def parts(command):
  return importlib.import_module('accelerator_parts')


@pytest.fixture
def without_tensorflow(monkeypatch):
  # An import of a module that is None fails as if it were not installed.
  for name in ('tensorflow', 'tensorflow_datasets'):
    monkeypatch.setitem(sys.modules, name, None)


def part_of(parts, seconds, *does):
  return parts.Part(
    'step',
    tuple(
      parts.Unit(f'step {what}', 'small_benchmark', (what,), 'float32')
      for what in does
    ),
    seconds,
  )


def test_a_part_that_fails_is_a_row(command, parts, tmp_path, monkeypatch):
  made = [
    part_of(parts, 480, 'fine', 'broken', 'again'),
    part_of(parts, 480, 'killed', 'behind'),
    part_of(parts, 3, 'slow'),
  ]
  monkeypatch.setattr(command, '_LEAST', 1)
  monkeypatch.setattr(command, 'parts_of', lambda *, toy: made)
  out = tmp_path / 'rows.jsonl'
  options = command.parsed([f'--out={out}', '--only=step', '--toy'])
  command.run(options, command.Rows(out))
  rows = {row['row']: row for row in map(json.loads, out.open())}
  reasons = {name: row.get('left_out') for name, row in rows.items()}
  assert reasons == {
    'step fine': None,
    'step broken': 'RuntimeError: RESOURCE_EXHAUSTED: out of memory',
    'step again': None,
    'step killed': reasons['step behind'],
    'step behind': reasons['step killed'],
    'step slow': 'stopped after 3 seconds',
  }
  assert 'ended by signal 9' in reasons['step killed']
  assert rows['step fine']['command'] == 'benchmarks/small_benchmark.py fine'

  # The second time, only what is missing is measured, with the known peak, and
  # nothing begins when the time is over.
  made[1:] = [part_of(parts, 480, 'fine'), part_of(parts, 480, 'broken')]
  options.minutes = 0.001
  with out.open('a') as file:
    file.write('{"row": "step not whole')
  rows = command.Rows(out)
  before = len(rows.all)
  command.run(options, rows)
  added = [(row['row'], row['left_out']) for row in rows.all[before:]]
  late = 'no time was left; the same command measures it'
  assert added == [('step broken', late)] * 2
  (unit,) = part_of(parts, 1, 'fine').units
  assert command.given(unit, rows).arguments == ('fine', '--peak=3.5')


def test_a_cpu_is_refused(command, tmp_path, capsys, monkeypatch):
  out = tmp_path / 'rows.jsonl'
  row = {'row': 'peaks of the device', 'device': {'platform': 'cpu'}}
  out.write_text(json.dumps(row) + '\n')
  monkeypatch.setattr(sys, 'argv', ['accelerator.py', f'--out={out}'])
  assert command.main() == 2
  assert 'JAX finds no accelerator here' in capsys.readouterr().err


def test_the_table_has_a_line_for_each_row(command):
  table = importlib.import_module('accelerator_table')
  step = {
    'row': 'step tvr bfloat16',
    'benchmark': 'train_step',
    'step_seconds_median': 0.0123,
    'videos_per_second': 10406.5,
    'share_of_peak': 0.412,
    'step_gib': 5.81,
    'device': {'kind': 'chip', 'platform': 'tpu', 'count': 1},
    'versions': {'jax': '1.2.3', 'python': '3.12.0'},
  }
  torch = {
    'row': 'torch tvr bfloat16',
    'benchmark': 'plain_torch',
    'step_seconds_median': 0.0246,
    'videos_per_second': 5203.2,
    'device_peak_gib': 11,
    'device': 'chip',
    'torch': '2.0',
  }
  late = {'row': 'run', 'benchmark': 'whole_run', 'left_out': 'too late'}
  again = {'row': step['row'], 'left_out': 'an attempt after it failed'}
  lines = table.table([step, torch, late, again]).splitlines()
  assert lines[0] == '- 1 x chip (tpu), jax 1.2.3, python 3.12.0'
  assert lines[1] == '- chip, torch 2.0'
  assert lines[5] == (
    '| training step, tvr, bfloat16 | 12.3 ms | 10,406 videos/s | 41 % of peak '
    '| 5.81 GiB |'
  )
  assert '2.00 times the step' in lines[6]
  assert lines[7] == '| run | left out: too late |  |  |  |'


def test_everything_asked_for_is_a_part(parts):
  units = [unit for part in parts.parts_of(toy=False) for unit in part.units]
  names = {unit.name for unit in units}
  assert len(names) == len(units)
  assert {part.kind for part in parts.parts_of(toy=False)} == set(parts.KINDS)
  for dataset in ('activitynet', 'tvr', 'charades'):
    for dtype in ('float32', 'bfloat16'):
      assert f'step {dataset} {dtype}' in names
  assert {'search float16', 'search int8', 'peaks of the device'} <= names
  toys = [unit for part in parts.parts_of(toy=True) for unit in part.units]
  assert [unit.name for unit in toys] == [unit.name for unit in units]


@pytest.mark.parametrize('toy', [False, True])
def test_benchmarks_know_the_options_of_their_parts(
  command, parts, tmp_path, toy
):
  rows = command.Rows(tmp_path / 'rows.jsonl')
  rates = 'float32_tflop', 'bfloat16_tflop', 'bandwidth_gb'
  rows.add({'row': 'peaks', **{f'{x}_per_second': 2.5 for x in rates}})
  for part in parts.parts_of(toy=toy):
    for unit in part.units:
      arguments = command.given(unit, rows).arguments
      if part.kind in ('peaks', 'torch'):
        assert arguments == unit.arguments
        continue
      found = importlib.import_module(unit.benchmark).parsed(arguments)
      given = found.bandwidth if part.kind == 'search' else found.peak
      assert given == 2.5


def test_the_command_starts_no_device_and_needs_no_tensorflow():
  # Only one process at a time can have a TPU.
  program = (
    'import sys; sys.path.insert(0, "benchmarks")\n'
    'sys.modules["tensorflow"] = sys.modules["torch"] = None\n'
    'import accelerator\n'
    'assert "jax" not in sys.modules\n'
    'import train_step, search_device, evaluation, whole_run, encoders, peaks\n'
  )
  subprocess.run([sys.executable, '-c', program], cwd=ROOT, check=True)


@pytest.mark.parametrize('kind', ['peaks', 'search', 'encoder'])
@pytest.mark.usefixtures('without_tensorflow')
def test_toy_sizes(kind, parts):
  peaks = {'bandwidth': '--bandwidth=10', 'bfloat16': '--peak=0.1'}
  units = [
    unit.with_options(peaks[unit.peak]) if unit.peak else unit
    for part in parts.parts_of(toy=True)
    for unit in part.units
    if part.kind == kind
  ]
  rows = list(parts.measure(tuple(units), False))
  assert [row['row'] for row in rows] == [unit.name for unit in units]
  for row in rows:
    assert 'left_out' not in row, row['left_out']
  table = importlib.import_module('accelerator_table').table(rows)
  assert len(table.splitlines()) > len(rows)


@pytest.mark.slow
def test_the_whole_command_at_toy_sizes(parts, tmp_path):
  # Python imports this module first, in all processes of the command.
  (tmp_path / 'sitecustomize.py').write_text(
    'import sys\n'
    "for name in ('tensorflow', 'tensorflow_datasets'):\n"
    '  sys.modules[name] = None\n'
  )
  out = tmp_path / 'rows.jsonl'
  command = 'benchmarks/accelerator.py --toy --minutes=60'
  ours = {'JAX_NUM_CPU_DEVICES': '1', 'PYTHONPATH': str(tmp_path)}
  done = subprocess.run(
    [sys.executable, *command.split(), f'--out={out}'],
    cwd=ROOT,
    env={**os.environ, **ours},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  rows = [json.loads(line) for line in out.open()]
  units = [unit for part in parts.parts_of(toy=True) for unit in part.units]
  assert [row['row'] for row in rows] == [unit.name for unit in units]
  for row in rows:
    if row['benchmark'] != 'plain_torch' or find_spec('torch'):
      assert 'left_out' not in row, row['left_out'] + done.stderr
  assert '| training step, tvr, float32 |' in done.stdout


@pytest.mark.parametrize('tokens', ['float16', 'int8'])
def test_the_search_of_made_tokens_is_exact(command, tokens):
  search = importlib.import_module('search_device')
  options = search.parsed(
    f'--tokens={tokens} --videos=48 --clips=2 --frames=5 --width=16'.split()
  )
  searcher = search.made_searcher(options)
  assert searcher.resident()
  queries = np.random.default_rng(0).standard_normal((3, 16), np.float32)
  scores, rows = searcher.search(queries, 4)
  ((stored, _),) = searcher._parts.load(tokens)
  expected = np.zeros((3, 48))
  weights = searcher._retriever.model
  for branch, weight in (
    ('clip', weights.clip_weight),
    ('frame', weights.frame_weight),
  ):
    if tokens == 'int8':
      codes = np.asarray(stored[f'{branch}_codes'], np.float64)
      found = codes * np.asarray(stored[f'{branch}_scales'])[..., None]
    else:
      found = np.asarray(stored[f'{branch}_tokens'], np.float64)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    cosine = np.einsum('nd,vsd->nvs', unit(queries), unit(found))
    expected += weight * cosine.max(-1)
  best = np.argsort(-expected, axis=1)[:, :4]
  np.testing.assert_array_equal(rows, best)
  np.testing.assert_allclose(
    scores, np.take_along_axis(expected, best, axis=1), rtol=2e-6
  )
