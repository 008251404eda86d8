"""The log of a run, and the errors of its steps."""

import json
import pickle

import pytest

from dreamprvr_jax.checkpoints import CheckpointError
from dreamprvr_jax.folders import FolderError
from dreamprvr_jax.train.metric_log import METRICS_FILE, MetricLog, read_rows
from dreamprvr_jax.train.step_log import NotFiniteError


def line(step):
  return json.dumps({'kind': 'train', 'step': step})


def test_half_a_last_line_is_passed_over(tmp_path, caplog):
  (tmp_path / METRICS_FILE).write_text(f'{line(1)}\n{line(2)[:9]}')
  assert [row['step'] for row in read_rows(tmp_path)] == [1]
  assert not caplog.text


@pytest.mark.parametrize(
  'damage', [b'\0\0\0', b'\xff\xfe', b'7', b'{}', b'[' * 100_000]
)
def test_a_damaged_line_is_named(tmp_path, caplog, damage):
  path = tmp_path / METRICS_FILE
  path.write_bytes(
    b'\n'.join([line(1).encode(), damage, line(3).encode(), b''])
  )
  assert [row['step'] for row in read_rows(tmp_path)] == [1, 3]
  assert f'{path}:2 is damaged' in caplog.text


def test_rows_behind_the_state_are_dropped(tmp_path):
  (tmp_path / METRICS_FILE).write_text(''.join(f'{line(i)}\n' for i in (1, 2)))
  log = MetricLog(tmp_path, from_step=1)
  log.write('train', {'step': 2, 'loss': 0.5})
  log.close()
  assert [row.get('loss') for row in read_rows(tmp_path)] == [None, 0.5]
  assert not list(tmp_path.glob('.*'))


@pytest.mark.parametrize(
  'error',
  [
    NotFiniteError(7, 2, {'loss/clip': float('nan'), 'lr': 1.0}),
    CheckpointError('a folder: a reason'),
    FolderError('a folder: a reason'),
  ],
)
def test_errors_come_whole_from_another_process(error):
  found = pickle.loads(pickle.dumps(error))
  assert type(found) is type(error)
  assert str(found) == str(error)
  assert vars(found).keys() == vars(error).keys()
  if isinstance(error, NotFiniteError):
    assert 'loss/clip became NaN or infinite at step 7 (epoch 2)' in str(found)
    assert found.step == 7
