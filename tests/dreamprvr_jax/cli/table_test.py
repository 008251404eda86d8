"""Tables and sweeps: runs that are made, kept, continued and refused.

Most runs use a stand-in for main.py, which trains nothing.
"""

import csv
import fcntl
import json
import signal
import sys
import time

import pytest

import main
from dreamprvr_jax.cli import series
from tests.helpers import runs

FAKE = str(runs.ROOT / 'tests/helpers/fake_training.py')
SIZES = ('--config=configs/quickstart.py', '--noprogress', '--num_processes=1')


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
  """Runs main.py in this process; returns (exit code, stdout, stderr)."""
  monkeypatch.setattr(series, 'PROGRAM', (sys.executable, FAKE))

  def call(*arguments):
    code = main.main(['main.py', *SIZES, f'--workdir={tmp_path}/t', *arguments])
    return code, *capsys.readouterr()

  return call


def read(folder, name='table'):
  return json.loads((folder / f'{name}.json').read_text())


def test_table(tmp_path, call):
  code, out, err = call(
    '--mode=table',
    '--methods=ms_sl,hlformer+model.width=60',
    '--config.model.width=64',
    '--seeds=2',
  )
  assert code == 0, err
  assert 'run 1 of 4: ms_sl, seed 0: begins' in out
  assert '3 left, about 0:00:' in out
  assert 'run 4 of 4: hlformer+model.width=60, seed 1: SumR 62.0' in out
  table = read(tmp_path / 't')
  one, two = table['rows']
  assert one['metrics']['SumR']['values'] == [64.0, 66.0]
  assert two['metrics']['SumR']['mean'] == 61
  assert one['seeds'] == [0, 1]
  assert one['seconds_per_step'] == 2.0
  assert one['parameters'] == 1234
  assert table['unfinished'] == []
  (pair,) = table['differences']['neighbours']
  assert (pair['method'], pair['SumR']) == ('ms_sl', 4.0)
  page = (tmp_path / 't/table.md').read_text()
  assert '| ms_sl | 2 | 1.0 ± 0.0 |' in page
  assert 'Split test: 1,200 queries, 100 videos.' in page
  assert page in out
  assert 'hlformer' in (tmp_path / 't/table.tex').read_text()
  with (tmp_path / 't/table.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [row['SumR mean'] for row in rows] == ['65.0', '61.0', '0.5']


def test_without_training_a_run_is_an_evaluation(tmp_path, capsys):
  code = main.main(
    [
      'main.py',
      *SIZES,
      f'--workdir={tmp_path}/t',
      '--mode=table',
      '--methods=best_frame,tf_prvr+model.beta=0.3',
      '--seeds=2',
      f'--config.data.root={tmp_path}/data',
      '--config.simulated.videos=(4, 3, 5)',
      '--config.data.workers=1',
      # For models beside them.
      '--config.data.max_frames=64',
      '--config.model.width',
      '96',
    ]
  )
  out, err = capsys.readouterr()
  assert code == 0, err
  # The seed does not matter, so there is one run of each.
  assert 'run 2 of 2: tf_prvr+model.beta=0.3, seed 0: SumR' in out
  assert '(not trained)' in out
  assert 'neither varies.' in out
  rows = read(tmp_path / 't')['rows']
  assert [row['seeds'] for row in rows] == [[0], [0]]
  assert [row['parameters'] for row in rows] == [0, 0]
  folder = tmp_path / 't/tf_prvr+model.beta=0.3/seed-0'
  stored = json.loads((folder / 'config.json').read_text())['config']
  assert stored['model'] == {'name': 'tf_prvr', 'wavelet': 'db4', 'beta': 0.3}
  assert stored['data']['max_frames'] == 128


@pytest.mark.parametrize(
  ('methods', 'flag', 'key'),
  [
    ('best_frame+model.width=64', '--noprogress', 'model.width'),
    ('best_frame', '--config.model.wdith=64', 'model.wdith'),
  ],
)
def test_a_key_that_it_or_no_model_has_is_refused(call, methods, flag, key):
  code, _, err = call('--mode=table', f'--methods={methods}', flag)
  assert code == 2
  assert key in err


def test_finished_runs_are_not_run_again(tmp_path, call, monkeypatch):
  assert call('--mode=table', '--methods=ms_sl')[0] == 0
  # From here on no run could be started.
  monkeypatch.setattr(series, 'PROGRAM', ('/none',))
  (tmp_path / 't/table.md').unlink()
  code, out, err = call('--mode=table', '--methods=ms_sl')
  assert code == 0, err
  assert 'finished before' in out
  assert (tmp_path / 't/table.md').exists()
  # Another split needs another report.
  code, _, _ = call(
    '--mode=table', '--methods=ms_sl', '--config.data.eval_split=val'
  )
  assert code == 2


def test_more_seeds_and_methods_add_to_a_table(tmp_path, call):
  assert call('--mode=table', '--methods=ms_sl')[0] == 0
  code, out, err = call('--mode=table', '--methods=ms_sl,msc', '--seeds=2')
  assert code == 0, err
  assert out.count('begins') == 3
  assert [row['seeds'] for row in read(tmp_path / 't')['rows']] == [[0, 1]] * 2


def test_a_failed_run_leaves_the_others(tmp_path, call):
  code, out, err = call(
    '--mode=table', '--methods=ms_sl', '--config.seed=6', '--seeds=2'
  )
  assert code == 2
  assert 'failed (exit 2): error: the fake was asked to fail' in out
  assert '1 of 2 runs failed (ms_sl, seed 7)' in err
  assert [row['seeds'] for row in read(tmp_path / 't')['rows']] == [[6]]
  assert 'Not finished yet: ms_sl, seed 7.' in out
  assert 'asked to fail' in (tmp_path / 't/ms_sl/seed-7/log.txt').read_text()


def test_a_table_elsewhere(tmp_path, call):
  code, _, err = call('--mode=table', '--methods=msc', f'--out={tmp_path}/o/p')
  assert code == 0, err
  assert (tmp_path / 'o/p/table.tex').exists()
  assert not (tmp_path / 't/table.tex').exists()


def test_sweep(tmp_path, call):
  code, out, err = call(
    '--mode=sweep', '--sweep=model.width=8,16', '--config.report.queries=1'
  )
  assert code == 0, err
  assert 'model.width=16 is 8.0 SumR above model.width=8' in out
  rows = read(tmp_path / 't')['rows']
  assert [row['method'] for row in rows] == ['model.width=8', 'model.width=16']
  assert (tmp_path / 't/sweep.png').read_bytes().startswith(b'\x89PNG')
  assert (tmp_path / 't/model.width=8/seed-0/finished.json').exists()


@pytest.mark.parametrize(
  ('arguments', 'sentence'),
  [
    (['--mode=table'], 'needs --methods='),
    (['--mode=sweep'], 'needs --sweep='),
    (['--mode=table', '--methods=ms_sl', '--seeds=0'], '--seeds=0 must be'),
    (['--mode=table', '--methods=ms_sl,none'], 'none: the config asks for'),
    (
      ['--mode=table', '--methods=ms_sl,dreamprvr+model.num_register=0'],
      'dreamprvr+model.num_register=0: the config has no key config.model.',
    ),
    (
      ['--mode=table', '--methods=ms_sl', '--config.model.num_registers=2'],
      'ms_sl: the config has no such key',
    ),
    (['--mode=table', '--methods=ms_sl+model.width=wide'], "'wide'"),
    (['--mode=sweep', '--sweep=model.none=1'], 'no key config.model.none'),
  ],
)
def test_bad_requests_start_nothing(tmp_path, call, arguments, sentence):
  code, _, err = call(*arguments)
  assert code == 2
  assert sentence in err
  assert not (tmp_path / 't').exists()


def test_a_model_in_the_config_of_a_table_is_refused(capsys):
  arguments = ['--config=configs/tvr.py:msc', '--mode=table', '--workdir=none']
  assert main.main(['main.py', *arguments, '--methods=ms_sl']) == 2
  assert 'leave :msc out' in capsys.readouterr().err


def test_other_settings_are_refused_before_anything_is_run(tmp_path, call):
  assert call('--mode=table', '--methods=msc')[0] == 0
  code, out, err = call(
    '--mode=table', '--methods=ms_sl,msc', '--config.train.epochs=99'
  )
  assert code == 2
  assert 'config.train.epochs: 6 there, 99 now' in err
  assert 'begins' not in out
  assert not (tmp_path / 't/ms_sl').exists()


def test_one_command_at_a_time(tmp_path, call):
  (tmp_path / 't').mkdir()
  with (tmp_path / 't/.lock').open('w') as file:
    file.write('4321')
    file.flush()
    fcntl.flock(file, fcntl.LOCK_EX)
    code, _, err = call('--mode=table', '--methods=msc')
  assert code == 2
  assert 'is in use by another command' in err
  assert 'process 4321' in err


def test_several_processes_are_refused(monkeypatch, capsys):
  for name, value in (
    ('SIZE', 2),
    ('LOCAL_SIZE', 2),
    ('RANK', 0),
    ('LOCAL_RANK', 0),
  ):
    monkeypatch.setenv(f'OMPI_COMM_WORLD_{name}', str(value))
  arguments = ['--mode=table', '--methods=msc', '--workdir=none']
  code = main.main(['main.py', *SIZES[:2], *arguments])
  assert code == 2
  assert 'add --num_processes=1' in capsys.readouterr().err


def test_stopped_table_saves_and_continues(tmp_path, call):
  """The command itself uses no device, since its runs need all of it."""
  patch = (
    f"import jax\njax.config.update('jax_platforms', 'none')\n"
    'from dreamprvr_jax.cli import series\n'
    f'series.PROGRAM = ({sys.executable!r}, {FAKE!r})'
  )
  arguments = ['--mode=table', '--methods=ms_sl', '--config.seed=8']
  process = runs.start(
    [*SIZES, f'--workdir={tmp_path}/t', *arguments], patch=patch
  )
  folder = tmp_path / 't/ms_sl/seed-8'
  deadline = time.monotonic() + 120
  while not (folder / 'stopped').exists() and time.monotonic() < deadline:
    time.sleep(0.05)
  process.send_signal(signal.SIGTERM)
  code, out, err = runs.finish(process)
  assert code == 143, err
  assert 'stopped by SIGTERM' in out
  assert (folder / 'saved').exists()
  assert not (folder / 'finished.json').exists()
  code, out, err = call(*arguments)
  assert code == 0, err
  assert 'SumR 80.0' in out


SMALLEST = (
  '--config.simulated.videos=(8, 5, 6)',
  '--config.data.batch_size=8',
  '--config.data.workers=1',
  '--config.model.width=16',
  '--config.model.num_heads=2',
  '--config.train.epochs=2',
  '--config.train.hard_negative_epoch=1',
  '--config.train.log_every=1',
  '--config.report.pictures=False',
  '--config.report.untrained=False',
)


@pytest.mark.parametrize(
  'methods',
  [
    pytest.param(
      'ms_sl,gmmformer+model.block_widths=(0.0, 1.0)', marks=pytest.mark.long
    ),
    pytest.param(
      'hlformer,dreamprvr+model.num_registers=0,'
      'msc+loss.distances=0.0+loss.angles=0.0',
      marks=pytest.mark.slow,
    ),
  ],
)
def test_end_to_end(tmp_path, methods):
  code, out, err = runs.call(
    [
      *SIZES,
      *SMALLEST,
      '--mode=table',
      f'--methods={methods}',
      f'--config.data.root={tmp_path}/data',
      f'--workdir={tmp_path}/t',
    ]
  )
  assert code == 0, out + err
  table = read(tmp_path / 't')
  for row in table['rows']:
    assert row['metrics']['R@100']['mean'] == 100
    assert row['parameters'] > 1000
    assert row['devices'] == ['1 x cpu']
    folder = row['method'].replace(' ', '_')
    stored = runs.evaluation(tmp_path / 't' / folder / 'seed-0')
    assert row['metrics']['SumR']['values'] == [stored['SumR']]
  assert 'has no known spread' in out
