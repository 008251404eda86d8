"""A training that is killed at any moment continues to the same result."""

import random
import signal

import pytest

from tests.helpers import runs

# Kills the process at the n-th call of a function.
PATCH = """
import os, signal
def kill_at(owner, name, call, before=lambda *_: None):
  function, calls = getattr(owner, name), []
  def patched(*args, **kwargs):
    calls.append(1)
    if len(calls) == call:
      before(*args)
      os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)
  setattr(owner, name, patched)
"""
# Moment -> code that kills there, and the numbers of the calls that a run of 3
# epochs of 3 steps surely makes. The first step is logged before the third
# update is issued.
PLACES = {
  'in an epoch': (
    'from dreamprvr_jax.train.feeders import BatchFeeder\n'
    "kill_at(BatchFeeder, 'advance', {})",
    range(3, 10),
  ),
  'between epochs': (
    'from dreamprvr_jax.evaluation.evaluator import Evaluator\n'
    "kill_at(Evaluator, 'run', {})",
    range(1, 5),
  ),
  'with half a row in the log': (
    'from dreamprvr_jax.train.metric_log import MetricLog\n'
    'def half(log, *_):\n'
    '  log._file.write(\'{{"kind": "train", "st\')\n'
    '  log._file.flush()\n'
    "kill_at(MetricLog, 'write', {}, half)",
    range(2, 13),
  ),
  # The writing thread has written everything except the seal.
  'while a checkpoint is written': (
    'from dreamprvr_jax.checkpoints import series\n'
    "kill_at(series, 'write_seal', {})",
    range(1, 6),
  ),
  'between the best and the state': (
    'from dreamprvr_jax.checkpoints import RunCheckpoints\n'
    'def wait(saved, *_): saved.wait()\n'
    "kill_at(RunCheckpoints, 'save_latest', {}, wait)",
    range(1, 7),
  ),
}


def moments(seed, count):
  """Returns `count` different moments, equally many of each kind, drawn by the
  seed."""
  draw = random.Random(seed)
  each = count // len(PLACES)
  return [
    (name, call)
    for name, (_, calls) in PLACES.items()
    for call in draw.sample(calls, each)
  ]


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
  """A folder with one corpus and one run."""
  folder = tmp_path_factory.mktemp('killed')
  code, _, err = train(folder, folder / 'whole')
  assert code == 0, err
  return folder


def train(folder, workdir, patch=''):
  arguments = [
    *runs.SMALL,
    f'--config.data.root={folder}/data',
    f'--workdir={workdir}',
  ]
  return runs.call(arguments, patch=patch)


def rows(workdir, kind):
  """Returns the rows of the log, without measured times."""
  return [
    {name: value for name, value in row.items() if 'seconds' not in name}
    for row in runs.rows(workdir, kind)
  ]


@pytest.mark.slow
@pytest.mark.parametrize(('place', 'call'), moments(seed=25, count=10), ids=str)
def test_killed_training_ends_with_the_same_numbers(shared, place, call):
  workdir = shared / f'{place} {call}'
  patch, _ = PLACES[place]
  code, _, err = train(shared, workdir, PATCH + patch.format(call))
  assert code == -signal.SIGKILL, err
  assert runs.losses(workdir)
  code, _, err = train(shared, workdir)
  assert code == 0, err
  for kind in ('train', 'eval'):
    assert rows(workdir, kind) == rows(shared / 'whole', kind)
  assert runs.evaluation(workdir) == runs.evaluation(shared / 'whole')
  assert not list(workdir.rglob('*.orbax-checkpoint-tmp*'))
