"""Runs survive signals, damage and full disks."""

import shutil
import signal

import pytest

from tests.helpers import disks, runs

# Sends SIGTERM to its own process at the n-th call of a function.
PATCH = """
import os, signal, time
def stop_at(owner, name, call, pauses=(0,)):
  function, calls = getattr(owner, name), []
  def patched(*args, **kwargs):
    calls.append(1)
    if len(calls) == call:
      for pause in pauses:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(pause)
    return function(*args, **kwargs)
  setattr(owner, name, patched)
"""
EVALUATION = """
from dreamprvr_jax.evaluation.evaluator import Evaluator
stop_at(Evaluator, 'run', {})
"""
STAGES = {
  'evaluation': EVALUATION.format(2),
  'final evaluation': EVALUATION.format(4),
  # The first signal comes in the writing thread, the second while the run
  # waits.
  'save': """
from dreamprvr_jax.checkpoints import series
stop_at(series, 'write_seal', 3, pauses=(1, 1))
""",
}


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
  """A folder with one corpus and one run."""
  folder = tmp_path_factory.mktemp('faults')
  code, _, err = train(folder, folder / 'whole')
  assert code == 0, err
  return folder


def arguments(folder, workdir):
  return [
    *runs.SMALL,
    f'--config.data.root={folder}/data',
    f'--workdir={workdir}',
  ]


def train(folder, workdir, patch=''):
  return runs.call(arguments(folder, workdir), patch=patch)


def assert_continues(shared, workdir):
  """Checks that the same command ends like an undisturbed run."""
  code, _, err = train(shared, workdir)
  assert code == 0, err
  assert runs.losses(workdir) == runs.losses(shared / 'whole')
  assert runs.evaluation(workdir) == runs.evaluation(shared / 'whole')
  return err


def newest_state(workdir):
  steps = (workdir / 'checkpoints/latest').iterdir()
  return max(steps, key=lambda path: int(path.name))


def size(folder):
  return sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())


@pytest.mark.slow
@pytest.mark.parametrize('stage', STAGES)
def test_sigterm_ends_in_order(shared, stage):
  workdir = shared / stage
  code, out, err = train(shared, workdir, PATCH + STAGES[stage])
  assert code == 143, err
  assert 'same command continues' in out + err
  assert 'Traceback' not in err
  assert (newest_state(workdir) / 'seal.json').exists()
  assert_continues(shared, workdir)


def test_sigterm_in_the_preparation_keeps_what_is_done(tmp_path):
  prepare = [*runs.SMALL, '--mode=prepare', f'--config.data.root={tmp_path}']
  # The command is stopped with half of the generated corpus, then with one
  # shard.
  for module, name, call in (
    ('simulated', '_write_bigfile', 1),
    ('prepare', '_write_one', 2),
  ):
    patch = f"""{PATCH}
from data_pipeline import {module} as module
stop_at(module, {name!r}, {call})
"""
    code, _, err = runs.call(prepare, patch=patch)
    assert code == 143, err
    assert 'the same command continues' in err
    assert 'Traceback' not in err
  done = list(tmp_path.rglob('*.tfrecord-?????-of-?????'))
  assert done
  before = [path.stat().st_mtime_ns for path in done]
  code, _, err = runs.call(prepare)
  assert code == 0, err
  assert [path.stat().st_mtime_ns for path in done] == before


@pytest.mark.slow
def test_damaged_newest_state_costs_only_its_steps(shared):
  workdir = shared / 'damaged'
  process = runs.start(arguments(shared, workdir))
  runs.stop_at(process, workdir, 5, signal.SIGTERM)
  newest = newest_state(workdir)
  arrays = max(newest.rglob('*'), key=lambda path: path.stat().st_size)
  content = bytearray(arrays.read_bytes())
  content[len(content) // 2] ^= 1
  arrays.write_bytes(content)
  err = assert_continues(shared, workdir)
  assert f'step {newest.name} in {newest.parent} is damaged (state/' in err


@pytest.mark.slow
def test_damaged_best_weights_are_named(shared):
  workdir = shared / 'worn'
  shutil.copytree(shared / 'whole', workdir)
  (best,) = (workdir / 'checkpoints/best').iterdir()
  shutil.rmtree(best / 'weights')
  code, _, err = train(shared, workdir)
  assert code == 2
  assert f'{best} is damaged (weights/' in err
  assert 'Traceback' not in err


@pytest.mark.slow
def test_full_disk_costs_only_the_steps_since_the_last_state(shared, tmp_path):
  whole = shared / 'whole/checkpoints'
  # The disk has space for two states and the best weights, not for a third
  # state.
  states = size(whole / 'latest')
  room = (1.25 * states + size(whole / 'best')) / 2**20
  with disks.small_disk(tmp_path / 'disk', f'{room * 1024:.0f}k') as disk:
    workdir = disk / 'run'
    code, _, err = train(shared, workdir)
    assert code == 2, err
    assert 'No space left on device' in err
    assert 'free disk space and give the same command again' in err
    assert 'Traceback' not in err
    assert runs.losses(workdir)
    disks.enlarge(disk, '64m')
    err = assert_continues(shared, workdir)
    assert 'resuming at step' in err
    assert len(list((workdir / 'checkpoints/latest').iterdir())) == 2
