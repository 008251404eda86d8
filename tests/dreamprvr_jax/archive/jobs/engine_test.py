"""Elements, workers and the handling of errors."""

import collections
import json
import os
import sys

import pytest

from dreamprvr_jax.archive.jobs import engine
from dreamprvr_jax.archive.jobs.engine import Engine
from dreamprvr_jax.errors import UserError
from tests.helpers import batch


def test_bad_options(monkeypatch):
  with pytest.raises(UserError, match='--engine=spark is unknown; choose beam'):
    Engine('spark')
  with pytest.raises(UserError, match='cannot be read: No closing quotation'):
    _ = Engine('beam', '--flink_master="there').flags
  with pytest.raises(UserError, match='--workers=-1'):
    Engine('beam', workers=-1)
  with pytest.raises(UserError, match='--engine_options needs --engine=beam'):
    Engine.of('', '--runner=FlinkRunner', 1)
  assert Engine.of('', '', 1) is None
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  with pytest.raises(UserError, match=r"install 'dreamprvr_jax\[batch\]'"):
    Engine('beam').run(batch.refuse, [1])


def test_another_runner_gets_its_own_options_only():
  local = Engine('beam', '--direct_runner_bundle_repeat=1', workers=3).flags
  assert '--direct_num_workers=3' in local
  assert local[-1] == '--direct_runner_bundle_repeat=1'
  given = '--runner FlinkRunner --flink_master="some where:80"'
  assert Engine('beam', given).flags == [
    '--runner',
    'FlinkRunner',
    '--flink_master=some where:80',
  ]


@pytest.mark.parametrize('options', ['--direct_num_workers=two', '--runner=No'])
def test_options_that_beam_does_not_take(options):
  pytest.importorskip('apache_beam', reason='needs the extra `batch`')
  with pytest.raises(UserError, match=f'{options} are not accepted by Beam'):
    Engine('beam', options).run(batch.refuse, [1])


def test_two_workers_and_elements_that_come_twice(tmp_path):
  pytest.importorskip('apache_beam', reason='needs the extra `batch`')
  beam = Engine('beam', '--direct_runner_bundle_repeat=1', workers=2)
  former = os.environ.get('PYTHONPATH')
  beam.run(batch.touch, [(str(tmp_path), i) for i in range(8)])
  assert os.environ.get('PYTHONPATH') == former
  found = [path.name.split('-')[:2] for path in tmp_path.iterdir()]
  counts = collections.Counter(number for number, _ in found)
  assert counts == {str(i): 2 for i in range(8)}
  processes = {int(process) for _, process in found}
  assert len(processes) == 2
  assert os.getpid() not in processes


@pytest.mark.parametrize(
  ('work', 'said'),
  [
    (batch.refuse, r'failed: 1 is refused; what was finished is kept'),
    # Without our check Beam would wait forever.
    (batch.die, r'failed: a worker process ended \(out of memory\?\)'),
  ],
)
def test_work_that_fails(work, said):
  pytest.importorskip('apache_beam', reason='needs the extra `batch`')
  with pytest.raises(UserError, match=said):
    Engine('beam', workers=2).run(work, [1])


def test_a_mistake_is_no_failed_job():
  pytest.importorskip('apache_beam', reason='needs the extra `batch`')
  with pytest.raises(RuntimeError, match='TypeError: a mistake at 1'):
    Engine('beam', workers=1).run(batch.blunder, [1])


def test_what_a_failed_job_is_told_as():
  grpc = pytest.importorskip('grpc', reason='comes with the extra `batch`')
  sentence = 'the "file" of ünits\nis bad'
  text = (
    f'Traceback\nX: {engine._REFUSED}{json.dumps(sentence)} [while running]'
  )
  assert engine._reason(RuntimeError(text)) == sentence
  assert engine._reason(grpc.FutureTimeoutError()) is not None
  assert engine._reason(RuntimeError('TypeError: a mistake')) is None
  assert engine._reason(TypeError('a mistake')) is None
