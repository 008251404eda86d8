"""While one command writes to a folder, every other one is refused."""

import os
import pathlib
import re
import signal
import socket
import threading
import time

import numpy as np
import pytest

import main
from data_pipeline import simulated
from dreamprvr_jax import folders
from dreamprvr_jax.cli import data, flags
from tests.helpers import runs
from tests.helpers.released import write_place

HERE = f'process {os.getpid()} on {socket.gethostname()}'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A released checkpoint, and its import."""
  return write_place(tmp_path_factory.mktemp('holding'))


def content(folder):
  """Returns the contents of a folder, with the times of the last changes."""
  return {
    path: path.stat().st_mtime_ns
    for path in pathlib.Path(folder).rglob('*')
    if path.is_file()
  }


@pytest.mark.parametrize(
  'arguments',
  [
    [*runs.SMALL, '--workdir={held}'],
    [
      '--mode=rerank-train',
      '--checkpoint={place}/imported',
      '--workdir={held}',
    ],
    [
      '--mode=rerank-table',
      '--checkpoint={place}/imported',
      '--workdir={held}',
    ],
    [
      '--mode=table',
      '--methods=ms_sl',
      '--config=configs/quickstart.py',
      '--num_processes=1',
      '--workdir={held}',
    ],
    [
      '--mode=sweep',
      '--sweep=model.width=8',
      '--config=configs/quickstart.py',
      '--num_processes=1',
      '--workdir={held}',
    ],
    [
      '--mode=evaluate',
      '--checkpoint={place}/imported',
      '--workdir={held}',
    ],
    ['--mode=import', '--official={place}/best.ckpt', '--workdir={held}'],
    ['--mode=export', '--checkpoint={place}/imported', '--out={held}'],
  ],
  ids=lambda arguments: next(
    (a.removeprefix('--mode=') for a in arguments if '--mode=' in a), 'train'
  ),
)
def test_refused_before_anything_is_touched(tmp_path, place, capsys, arguments):
  held = tmp_path / 'held'
  with folders.held(held, 'run'):
    for name in ('metrics.jsonl', 'config.json', 'weights'):
      (held / name).write_text('theirs')
    before = content(tmp_path)
    code = main.main(
      ['main.py', *(a.format(place=place, held=held) for a in arguments)]
    )
    assert content(tmp_path) == before
  assert code == 2
  err = capsys.readouterr().err
  assert re.search(rf'error: the \w+ {held} is in use by another command', err)
  assert HERE in err
  assert err.count('error: ') == 1


@pytest.mark.parametrize('mode', ['extract', 'import'])
def test_collections_are_held(tmp_path, capsys, monkeypatch, mode):
  """While a command writes a collection, another one is refused."""
  (tmp_path / 'videos').mkdir()
  (tmp_path / 'videos/a.mp4').touch()
  np.savez(tmp_path / 'videos.npz', a=np.ones((4, 8), np.float32))
  arguments = ['main.py', f'--mode={mode}', f'--out={tmp_path}/out']
  arguments += ['--collection=mine', '--noprogress']
  if mode == 'extract':
    arguments.append(f'--videos={tmp_path}/videos')
    hold = folders.held(tmp_path / 'out/mine', 'collection')
  else:
    arguments.append(f'--features={tmp_path}/videos.npz')
    hold = folders.made(tmp_path / 'out/mine', 'import')
  with hold:
    before = content(tmp_path)
    assert main.main(arguments) == 2
    assert content(tmp_path) == before
  err = capsys.readouterr().err
  assert f'{tmp_path}/out/mine is in use by another command ({HERE})' in err


def test_a_failed_command_leaves_no_folder(tmp_path, capsys):
  arguments = [
    *runs.SMALL[:2],
    '--config.simulated.enabled=False',
    f'--config.data.root={tmp_path}/none',
    f'--workdir={tmp_path}/run',
  ]
  assert main.main(['main.py', *arguments]) == 2
  assert str(tmp_path / 'none') in capsys.readouterr().err
  assert list(tmp_path.iterdir()) == []


def test_two_trainings_share_the_generated_corpus(tmp_path, monkeypatch):
  """The second training waits until the first has written the corpus."""
  config = flags.parse(
    [
      'main.py',
      f'--config={runs.ROOT}/configs/quickstart.py',
      '--config.simulated.videos=(4, 2, 2)',
      f'--config.data.root={tmp_path}',
    ]
  ).config
  written, waits = [], threading.Event()
  write_corpus = simulated.write_corpus

  def write(*args, **kwargs):
    written.append(1)
    second.start()
    assert waits.wait(60)
    return write_corpus(*args, **kwargs)

  info = folders._log.info

  def note(*args):
    info(*args)
    waits.set()

  monkeypatch.setattr(simulated, 'write_corpus', write)
  monkeypatch.setattr(folders._log, 'info', note)
  second = threading.Thread(target=data.write_simulated, args=[config])
  data.write_simulated(config)
  second.join(60)
  assert not second.is_alive()
  assert len(written) == 1
  assert [p.name for p in tmp_path.iterdir()] == [config.data.collection]


def test_a_run_of_several_processes_is_refused_as_one(tmp_path):
  """All processes end with the error of process 0, which takes the lock."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  arguments = [
    *runs.SMALL,
    f'--config.data.root={tmp_path}/data',
    f'--workdir={tmp_path}/run',
    f'--coordinator=localhost:{port}',
    '--num_processes=2',
  ]
  with folders.held(tmp_path / 'run', 'run'):
    processes = [
      runs.start(
        [*arguments, f'--process_id={i}'], cache=tmp_path / f'cache{i}'
      )
      for i in range(2)
    ]
    for process in processes:
      code, _, err = runs.finish(process, 120)
      assert code == 2, err
      assert f'error: the run {tmp_path}/run is in use by another' in err
      assert HERE in err
      assert 'Traceback' not in err
  assert not (tmp_path / 'data').exists()


@pytest.mark.slow
def test_the_same_training_twice(tmp_path):
  """The second training does not disturb the first; the lock of a killed
  training is taken over."""
  arguments = [
    *runs.SMALL,
    f'--config.data.root={tmp_path}/data',
    f'--workdir={tmp_path}/run',
  ]
  first = runs.start(arguments)
  while not runs.losses(tmp_path / 'run') and first.poll() is None:
    time.sleep(0.05)
  first.send_signal(signal.SIGSTOP)
  before = content(tmp_path / 'run')
  code, _, err = runs.call(arguments)
  assert code == 2
  assert f'process {first.pid} on ' in err
  assert content(tmp_path / 'run') == before
  first.kill()
  first.communicate()
  code, _, err = runs.call(arguments)
  assert code == 0, err
  assert sorted(runs.losses(tmp_path / 'run')) == list(range(1, 10))
