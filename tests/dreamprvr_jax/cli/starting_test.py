"""config.train.start: TRACE's second phase from a checkpoint."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from configs.quickstart import get_config
from dreamprvr_jax.cli import starting
from dreamprvr_jax.models.traced import HEAD, SCHEDULE, SHARE
from dreamprvr_jax.trained.inference import load
from tests.helpers import commands, runs

VIDEOS = (9, 4, 5)
# Pooled registers compile in half of the time of generated ones, and a step
# without dropout in two thirds.
SMALL = (
  '--config.model.dropout=0.0',
  '--config.model.input_dropout=0.0',
  '--config.model.register_source=adaptive_pooling',
  '--config.loss.variational=0.0',
  '--config.loss.diffusion=0.0',
  '--config.model.num_registers=2',
  '--config.model.diffusion_steps=2',
  '--config.model.diffusion_layers=1',
  '--config.model.block_widths=(0.0, 1.0)',
)


@dataclasses.dataclass(frozen=True)
class Base:
  """A folder, and the checkpoint of seed 0 in it."""

  folder: object
  checkpoint: object


@pytest.fixture(scope='module')
def base(tmp_path_factory):
  folder = tmp_path_factory.mktemp('start')
  place, _ = commands.untrained(folder, 'dreamprvr', VIDEOS, *SMALL)
  return Base(folder, place.rename(folder / 'seed-0'))


def train(base, name, *flags):
  return commands.answer(
    'train',
    f'--config={runs.ROOT}/configs/quickstart.py:trace',
    f'--config.data.root={base.folder}/data',
    f'--config.simulated.videos={VIDEOS}',
    f'--workdir={base.folder}/{name}',
    f'--config.train.start={base.folder}/seed-{{seed}}',
    '--config.data.workers=1',
    '--config.num_devices=1',
    '--config.data.batch_size=8',
    '--config.model.width=16',
    '--config.model.num_heads=2',
    '--config.report.pictures=False',
    *SMALL,
    *flags,
  )


def test_second_phase(base):
  """In the held epoch only the maps move; the share rises epoch by epoch."""
  code, out, err = train(
    base,
    'held',
    '--config.train.epochs=2',
    '--config.train.held_epochs=2',
    '--config.train.fusion_start=0',
    '--config.train.fusion_rise=2',
    '--config.optimizer.lr=0.01',
    '--config.report.untrained=True',
  )
  assert code == 0, err
  assert 'start' in out
  before = load(base.checkpoint)[1]
  after = jax.device_get(load(base.folder / 'held')[1])
  maps = after['params'].pop(HEAD)
  jax.tree.map(np.testing.assert_array_equal, before['params'], after['params'])
  assert all(
    np.any(x['kernel'] != np.eye(16, dtype=np.float32)) for x in maps.values()
  )
  found = json.loads((base.folder / 'held/eval_test.json').read_text())
  assert 'SumR' in found['start']
  # The share of the epoch that was kept: 0, then one half.
  assert after[SCHEDULE][SHARE] == (found['epoch'] - 1) / 2


def test_the_share_of_another_run_is_not_taken_over(monkeypatch):
  theirs = {
    'params': {'kernel': np.ones(3)},
    SCHEDULE: {SHARE: np.float32(0.4)},
  }
  monkeypatch.setattr(starting, 'load', lambda place: (None, theirs))
  config = get_config('trace')
  config.train.start = 'RUN'
  initial = {'params': {'kernel': np.zeros(3)}, SCHEDULE: {SHARE: np.ones(())}}
  found = starting.started(config, initial)
  assert found[SCHEDULE][SHARE] == 1
  np.testing.assert_array_equal(found['params']['kernel'], 1)


@pytest.mark.parametrize(
  ('flags', 'sentence'),
  [
    (('--config.seed=1',), 'seed-1 holds no config.json; give the workdir'),
    (
      ('--config.data.num_clips=31',),
      'logits.bias has the shape (32,) there and (31,) in the model',
    ),
    (
      (
        '--config.model.trace=none',
        '--config.loss.trace_nce=0.0',
        '--config.loss.trace_triplet=0.0',
      ),
      'config.train.held_epochs is 5, but without TRACE there is no new part',
    ),
    (
      ('--config.optimizer.kind=adam',),
      "config.optimizer.kind is 'adam'; choose from bert_adam, adamw",
    ),
    (
      ('--config.model.num_registers=0',),
      'but the model makes no registers',
    ),
  ],
)
def test_refused(base, flags, sentence, tmp_path):
  code, _, err = train(base, f'refused-{tmp_path.name}', *flags)
  assert code == 2
  assert sentence in err
  assert 'Traceback' not in err
