"""The main job end to end: files, resume, devices, processes."""

import json
import re
import signal
import socket

import numpy as np
import pytest

from configs import common
from dreamprvr_jax.cli import provenance
from dreamprvr_jax.cli.training import check_same_run
from dreamprvr_jax.errors import UserError
from tests.helpers import runs

pytestmark = pytest.mark.long
STEPS = 9  # 20 videos in batches of 8, three epochs
DEVICE = '--config.data.pipeline=device'
TOGETHER = (
  DEVICE,
  '--config.train.log_every=3',
  '--config.train.checkpoint_every=0',
  '--config.train.steps_per_dispatch=2',
)


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
  """A folder with one corpus and one run."""
  folder = tmp_path_factory.mktemp('training')
  code, out, err = train(folder, 'whole')
  assert code == 0, err
  (folder / 'out.txt').write_text(out)
  return folder


def arguments(folder, name, *more):
  return [
    *runs.SMALL,
    f'--config.data.root={folder}/data',
    f'--workdir={folder}/{name}',
    *more,
  ]


def train(folder, name, *more, devices=1):
  return runs.call(arguments(folder, name, *more), devices)


def test_what_a_run_leaves(shared):
  whole = shared / 'whole'
  assert sorted(runs.losses(whole)) == list(range(1, STEPS + 1))
  assert [row['epoch'] for row in runs.rows(whole, 'eval')] == [1, 2, 3]
  metrics = runs.evaluation(whole)
  recalls = {'R@1', 'R@5', 'R@10', 'R@100', 'SumR', 'MedR', 'MeanR'}
  assert recalls <= metrics.keys()
  assert metrics['by_branch'].keys() == {'clip', 'frame', 'fused'}
  assert recalls <= metrics['text_to_text'].keys()
  assert (
    sum(part['queries'] for part in metrics['by_moment_ratio'].values())
    == metrics['num_queries']
  )
  assert metrics['num_videos'] == 7
  stored = json.loads((whole / 'config.json').read_text())
  assert {'config', 'versions', 'device', 'visual_width'} <= stored.keys()
  assert list((whole / 'tensorboard').iterdir())


def test_table_names_split_sizes_and_who_chose(shared):
  out = (shared / 'out.txt').read_text()
  metrics = runs.evaluation(shared / 'whole')
  assert f'split test: {metrics["num_queries"]} queries, 7 videos' in out
  assert 'chosen on val by SumR' in out
  assert 'R@100' in out


def test_best_epoch_is_the_first_with_the_highest_sum(shared):
  rows = runs.rows(shared / 'whole', 'eval')
  sums = [row['SumR'] for row in rows]
  assert runs.evaluation(shared / 'whole')['epoch'] == np.argmax(sums) + 1


@pytest.mark.parametrize(
  ('name', 'number', 'step'),
  [
    pytest.param('killed early', signal.SIGKILL, 1, marks=pytest.mark.slow),
    ('killed mid-epoch', signal.SIGKILL, 5),
    ('terminated', signal.SIGTERM, 4),
  ],
)
def test_stopped_run_continues_with_the_same_numbers(
  shared, name, number, step
):
  process = runs.start(arguments(shared, name))
  code, out, _ = runs.stop_at(process, shared / name, step, number)
  if number == signal.SIGTERM:
    assert code == 143
    assert 'The same command continues' in out
  else:
    assert code == -signal.SIGKILL
  code, _, err = train(shared, name)
  assert code == 0, err
  assert runs.losses(shared / name) == runs.losses(shared / 'whole')
  again, whole = (
    runs.evaluation(shared / name),
    runs.evaluation(shared / 'whole'),
  )
  assert again == whole


def test_finished_run_only_reports_again(shared):
  before = runs.losses(shared / 'whole')
  code, out, err = train(shared, 'whole')
  assert code == 0, err
  assert 'all epochs done' in out
  assert runs.losses(shared / 'whole') == before


def test_other_settings_in_the_same_workdir_are_refused(shared):
  code, _, err = train(shared, 'whole', '--config.optimizer.lr=0.5')
  assert code == 2
  assert 'config.optimizer.lr: 0.001 there, 0.5 now' in err
  assert 'Traceback' not in err


def test_a_key_that_the_stored_run_lacks_had_its_default(tmp_path):
  config = common.with_model(common.base_config(), 'dreamprvr')
  stored = provenance.plain_config(config)
  del stored['model']['sentence_weight'], stored['train']['smoothing']
  (tmp_path / 'config.json').write_text(json.dumps({'config': stored}))
  check_same_run(tmp_path, config)
  with config.unlocked():
    config.model.sentence_weight = 0.5
  with pytest.raises(UserError, match=r'_weight: 0\.0 there, 0\.5 now'):
    check_same_run(tmp_path, config)


@pytest.mark.slow
def test_eight_devices_equal_one(shared):
  code, _, err = train(shared, 'eight', devices=8)
  assert code == 0, err
  assert_same_course(shared / 'eight', shared / 'whole')


@pytest.mark.slow
def test_saved_on_one_device_resumes_on_eight(shared):
  process = runs.start(arguments(shared, 'moved'))
  runs.stop_at(process, shared / 'moved', 4)
  code, _, err = train(shared, 'moved', devices=8)
  assert code == 0, err
  assert_same_course(shared / 'moved', shared / 'whole')


@pytest.mark.parametrize(
  'settings',
  [
    pytest.param((), id='host'),
    pytest.param(TOGETHER, id='device', marks=pytest.mark.slow),
  ],
)
def test_two_processes_equal_one(shared, settings, request):
  name = f'two {request.node.callspec.id}'
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  processes = [
    runs.start(
      arguments(
        shared,
        name,
        f'--coordinator=localhost:{port}',
        '--num_processes=2',
        f'--process_id={i}',
        *settings,
      ),
      cache=shared / f'cache{i}',
    )
    for i in range(2)
  ]
  for process in processes:
    code, _, err = runs.finish(process)
    assert code == 0, err
  assert_same_course(shared / name, shared / 'whole')


def test_streaming_equals_resident(shared):
  pytest.importorskip('tensorflow')
  code, _, err = train(shared, 'streaming', '--config.data.pipeline=streaming')
  assert code == 0, err
  assert runs.losses(shared / 'streaming') == runs.losses(shared / 'whole')


def test_device_equals_resident(shared):
  code, _, err = train(shared, 'device', DEVICE)
  assert code == 0, err
  assert re.search(r"pipeline 'device': [\d.]+ MiB in float32, as conf", err)
  for kind in ('train', 'eval'):
    ours, theirs = (
      [
        {k: v for k, v in row.items() if 'seconds' not in k}
        for row in runs.rows(shared / name, kind)
      ]
      for name in ('device', 'whole')
    )
    assert ours == theirs
  assert runs.evaluation(shared / 'device') == runs.evaluation(shared / 'whole')


@pytest.mark.slow
def test_many_updates_a_call_on_eight_devices(shared):
  code, _, err = train(shared, 'together', *TOGETHER, devices=8)
  assert code == 0, err
  assert sorted(runs.losses(shared / 'together')) == [3, 6, 9]
  assert_same_course(shared / 'together', shared / 'whole')


@pytest.mark.slow
def test_another_pipeline_continues_a_run(shared):
  process = runs.start(arguments(shared, 'mixed', DEVICE))
  runs.stop_at(process, shared / 'mixed', 5, signal.SIGTERM)
  code, _, err = train(shared, 'mixed', '--config.data.pipeline=resident')
  assert code == 0, err
  assert runs.losses(shared / 'mixed') == runs.losses(shared / 'whole')


def test_loss_that_is_not_finite_is_named_and_the_last_state_kept(shared):
  code, _, err = train(shared, 'nan', '--config.loss.diversity_alpha=1e38')
  assert code == 2
  assert 'loss/diversity became NaN or infinite at step 0' in err
  assert 'Traceback' not in err
  assert [p.name for p in (shared / 'nan/checkpoints/latest').iterdir()] == [
    '0'
  ]


def assert_same_course(ours, theirs):
  """Compares the losses of the steps that the first run logged."""
  ours, theirs = runs.losses(ours), runs.losses(theirs)
  assert max(ours) == max(theirs) == STEPS
  np.testing.assert_allclose(
    list(ours.values()), [theirs[step] for step in ours], rtol=2e-4
  )
