"""A run's checkpoints, and restoring them after faults."""

import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.checkpoints import (
  CheckpointError,
  RunCheckpoints,
  load_weights,
  series,
)
from dreamprvr_jax.devices import meshes
from tests.helpers import disks, runs

LATEST = pathlib.Path('checkpoints/latest')


def make_state(step, rows=500):
  """Returns a state whose values depend on the step; 40 kB, incompressible."""
  bits = np.random.default_rng(step).standard_normal((rows, 20))
  return meshes.replicate(
    {'params': {'kernel': bits.astype(np.float32)}, 'step': jnp.int32(step)},
    meshes.make_mesh(),
  )


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """A workdir with the states of steps 1 and 2, and the best weights."""
  workdir = tmp_path_factory.mktemp('written')
  saved = RunCheckpoints(workdir)
  for step in (0, 1, 2):
    saved.save_latest(step, make_state(step), {'step': step})
  saved.save_best(2, make_state(2)['params'], {'epoch': 1})
  saved.close()
  return workdir


@pytest.fixture
def workdir(written, tmp_path):
  shutil.copytree(written, tmp_path / 'run')
  return tmp_path / 'run'


def assert_restores(workdir, step, loop=None):
  saved = RunCheckpoints(workdir)
  assert saved.latest_step() == step
  state, found = saved.restore_latest(make_state(0))
  assert found == (loop or {'step': step})
  expected = make_state(step)
  jax.tree.map(np.testing.assert_array_equal, state, expected)
  kernel = state['params']['kernel']
  assert kernel.sharding == expected['params']['kernel'].sharding
  saved.close()


def largest(folder):
  return max(folder.rglob('*'), key=lambda path: path.stat().st_size)


def flip_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 8
  path.write_bytes(content)


def empty(folder):
  shutil.rmtree(folder)
  folder.mkdir()


def change_position(folder):
  seal = folder / 'seal.json'
  seal.write_text(seal.read_text().replace('"step": 2', '"step": 3'))


DAMAGE = {
  'flipped bit': (
    lambda step: flip_bit(largest(step / 'state')),
    'has another checksum than when it was written',
  ),
  'cut short': (
    lambda step: os.truncate(largest(step / 'state'), 1000),
    'has 1000 bytes instead of',
  ),
  'garbage': (
    lambda step: largest(step / 'state').write_bytes(os.urandom(999)),
    'has 999 bytes instead of',
  ),
  'no metadata': (
    lambda step: (step / 'state/_METADATA').unlink(),
    'state/_METADATA is missing',
  ),
  'garbage in metadata': (
    lambda step: (step / 'state/manifest.ocdbt').write_bytes(b'\xff' * 50),
    'state/manifest.ocdbt has 50 bytes',
  ),
  'no arrays': (
    lambda step: shutil.rmtree(step / 'state'),
    'is missing',
  ),
  'no seal': (
    lambda step: (step / 'seal.json').unlink(),
    'seal.json is missing',
  ),
  'half a seal': (
    lambda step: os.truncate(step / 'seal.json', 100),
    'seal.json cannot be read',
  ),
  'other position': (change_position, 'seal.json cannot be read'),
  'empty folder': (empty, 'seal.json is missing'),
}


def test_newest_state_comes_back_and_two_are_kept(workdir):
  assert sorted(p.name for p in (workdir / LATEST).iterdir()) == ['1', '2']
  assert_restores(workdir, 2)


@pytest.mark.parametrize(
  ('damage', 'problem'), DAMAGE.values(), ids=DAMAGE.keys()
)
def test_damaged_newest_state_is_passed_over(workdir, caplog, damage, problem):
  damage(workdir / LATEST / '2')
  # An earlier damaged state of this step stays.
  former = workdir / 'checkpoints/damaged/2/former.txt'
  former.parent.mkdir(parents=True)
  former.write_text('mine')
  with caplog.at_level(logging.WARNING):
    assert_restores(workdir, 1)
  (record,) = [r for r in caplog.records if 'damaged' in r.message]
  assert f'step 2 in {workdir / LATEST} is damaged' in record.message
  assert problem in record.message
  assert 'going back to step 1' in record.message
  # The step can be saved again, and the damaged state is kept for inspection.
  assert former.read_text() == 'mine'
  aside = workdir / 'checkpoints/damaged'
  assert [p.name[:2] for p in sorted(aside.iterdir())] == ['2', '2-']
  saved = RunCheckpoints(workdir)
  saved.save_latest(2, make_state(2), {'step': 2})
  saved.close()
  assert_restores(workdir, 2)


def test_damage_twice_at_the_same_step(workdir):
  for _ in range(2):
    flip_bit(largest(workdir / LATEST / '2/state'))
    saved = RunCheckpoints(workdir)
    assert saved.latest_step() == 1
    saved.save_latest(2, make_state(2), {'step': 2})
    saved.close()
  assert_restores(workdir, 2)


def test_without_a_whole_state_nothing_is_touched(workdir):
  flip_bit(largest(workdir / LATEST / '2/state'))
  empty(workdir / LATEST / '1')
  for _ in range(2):
    with pytest.raises(
      CheckpointError, match=r'no checkpoint in .* is whole'
    ) as e:
      RunCheckpoints(workdir)
    assert 'step 2: state/' in str(e.value)
    assert 'step 1: seal.json is missing' in str(e.value)
    assert 'start again in another --workdir' in str(e.value)
  assert sorted(p.name for p in (workdir / LATEST).iterdir()) == ['1', '2']


def test_other_shapes_are_refused_not_passed_over(workdir):
  saved = RunCheckpoints(workdir)
  with pytest.raises(
    CheckpointError, match=r'step 2 does not fit this config .*--workdir'
  ):
    saved.restore_latest(make_state(0, rows=7))
  assert saved.latest_step() == 2
  saved.close()
  assert not (workdir / 'checkpoints/damaged').exists()


def test_same_step_again_replaces_only_the_position(workdir):
  arrays = largest(workdir / LATEST / '2/state')
  before = arrays.stat()
  saved = RunCheckpoints(workdir)
  saved.save_latest(2, make_state(2), {'step': 2, 'evaluated_epochs': 1})
  saved.close()
  assert arrays.stat().st_mtime_ns == before.st_mtime_ns
  assert_restores(workdir, 2, {'step': 2, 'evaluated_epochs': 1})


def test_state_that_names_the_best_comes_after_it(tmp_path):
  saved = RunCheckpoints(tmp_path)
  saved.save_best(1, make_state(1, rows=200_000), {'epoch': 1})
  saved.save_latest(1, make_state(1), {'best': 1})
  assert (tmp_path / 'checkpoints/best/1').exists()
  saved.close()


def test_damaged_best_weights_are_refused_and_written_again(workdir):
  folder = workdir / 'checkpoints/best/2'
  template = make_state(0)['params']
  flip_bit(largest(folder / 'weights'))
  with pytest.raises(CheckpointError) as e:
    load_weights(workdir, template)
  assert f'{folder} is damaged (weights/' in str(e.value)
  assert 'restore it from a backup' in str(e.value)
  saved = RunCheckpoints(workdir)
  saved.save_best(2, make_state(2)['params'], {'epoch': 1})
  saved.close()
  jax.tree.map(
    np.testing.assert_array_equal,
    load_weights(workdir, template),
    make_state(2)['params'],
  )


def test_killed_while_saving(workdir):
  # The save is killed at the last moment: only the final name is missing.
  code = f"""
import os, signal, jax.numpy as jnp
from dreamprvr_jax.checkpoints import RunCheckpoints, series
series.write_seal = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
saved = RunCheckpoints({str(workdir)!r})
saved.save_latest(3, {{'a': jnp.ones(5000)}}, {{'step': 3}})
saved.close()
"""
  killed = subprocess.run([sys.executable, '-c', code], cwd=runs.ROOT)
  assert killed.returncode == -signal.SIGKILL
  (left,) = (workdir / LATEST).glob('3.*')
  assert_restores(workdir, 2)
  assert not left.exists()
  saved = RunCheckpoints(workdir)
  saved.save_latest(3, make_state(3), {'step': 3})
  saved.close()
  assert_restores(workdir, 3)


def assert_refused(saved, workdir, sentence):
  """Checks that saving step 3 fails with one error and earlier steps stay."""
  # The state is written in the background, so the error may come later.
  with pytest.raises(CheckpointError) as e:  # noqa: PT012
    saved.save_latest(3, make_state(3, rows=20_000), {'step': 3})
    saved.wait()
  assert f'written to {workdir / LATEST} ({sentence})' in str(e.value)
  assert 'about 1.5 MiB are needed, ' in str(e.value)
  assert 'free disk space and give the same command again' in str(e.value)
  saved.wait()
  saved.close()


def test_full_disk_loses_nothing(written, tmp_path, caplog):
  with disks.small_disk(tmp_path / 'disk', '2m') as disk:
    workdir = disk / 'run'
    shutil.copytree(written, workdir)
    (disk / 'filler').write_bytes(bytes(1 << 20))
    saved = RunCheckpoints(workdir)
    assert_refused(saved, workdir, 'No space left on device')
    # Now there is no space even for the smallest file.
    saved = RunCheckpoints(workdir)
    disks.fill(disk)
    with pytest.raises(OSError, match=str(workdir)):
      saved.save_latest(2, make_state(2), {'step': 'new'})
    assert_refused(saved, workdir, 'No space left on device')
    assert_restores(workdir, 2)
    (disk / 'filler').unlink()
    saved = RunCheckpoints(workdir)
    saved.save_latest(3, make_state(3), {'step': 3})
    saved.close()
    assert_restores(workdir, 3)
    assert sorted(p.name for p in (workdir / LATEST).iterdir()) == ['2', '3']
  assert not [r for r in caplog.records if r.exc_info]


def test_a_mistake_while_saving_is_no_full_disk(workdir, monkeypatch):
  def fail(*_, **__):
    raise AttributeError('a mistake')

  monkeypatch.setattr(series, 'write_seal', fail)
  saved = RunCheckpoints(workdir)
  with pytest.raises(AttributeError, match='a mistake'):  # noqa: PT012
    saved.save_latest(3, make_state(3), {'step': 3})
    saved.wait()
  saved.close()


def test_disk_that_refuses_long_files_loses_nothing(workdir):
  saved = RunCheckpoints(workdir)
  with disks.short_files(200_000):
    assert_refused(saved, workdir, 'File too large')
  assert_restores(workdir, 2)


def test_best_weights_that_cannot_be_written_keep_the_former(workdir):
  saved = RunCheckpoints(workdir)
  with disks.short_files(200_000):
    saved.save_best(3, make_state(3, rows=20_000)['params'], {'epoch': 3})
    with pytest.raises(CheckpointError) as e:
      saved.save_latest(3, make_state(3), {'step': 3})
  assert f'written to {workdir / "checkpoints/best"} (' in str(e.value)
  saved.close()
  # No state refers to missing weights.
  assert_restores(workdir, 2)
  load_weights(workdir, make_state(0)['params'])


def test_an_error_of_the_program_is_no_full_disk(workdir, monkeypatch):
  saved = RunCheckpoints(workdir)

  def fail(*_, **__):
    raise TypeError('the programmer nodded')

  monkeypatch.setattr(series, 'write_seal', fail)
  saved.save_latest(3, make_state(3), {'step': 3})
  with pytest.raises(TypeError, match='nodded'):
    saved.wait()
  saved.close()
