"""The loop with a made-up update: stopping rules, resume, failures."""

import dataclasses
import json
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax import parallel
from dreamprvr_jax.checkpoints import RunCheckpoints, best_info
from dreamprvr_jax.evaluation.encoder import Stopped
from dreamprvr_jax.train.loop import Loop, LoopOptions, NotFiniteError
from dreamprvr_jax.train.metric_log import MetricLog, read_rows
from dreamprvr_jax.train.signals import StopRequest
from dreamprvr_jax.train.step import TrainState

STEPS = 2


class Feed:
  """Batches whose content is their position."""

  def __init__(self, position):
    self.position = position

  def __next__(self):
    self.position += 1
    rows = np.full((8,), self.position, np.float32)
    return dict.fromkeys(
      (
        'clip_features',
        'frame_features',
        'frame_mask',
        'video_mask',
        'word_features',
        'word_mask',
        'caption_mask',
        'caption_video',
      ),
      rows,
    )

  def close(self):
    pass


def update(state, batch, bad_step=None):
  alive = bool(state.alive) and int(state.step) != bad_step
  loss = float(batch.clip_features[0]) if alive else float('nan')
  scalars = {
    'loss/total': jnp.asarray(loss),
    'loss/part': jnp.asarray(loss),
    'alive': jnp.asarray(alive),
  }
  # What was seen is summed up: a lost or repeated batch shows.
  seen = state.params['seen'] + (loss if alive else 0.0)
  return (
    dataclasses.replace(
      state,
      step=state.step + int(alive),
      alive=jnp.asarray(alive),
      params={'seen': seen},
    ),
    scalars,
  )


def make_loop(folder, sums, *, stop=None, patience=10, step=update, **options):
  mesh = parallel.make_mesh(1)
  state = TrainState(
    step=jnp.zeros((), jnp.int32),
    alive=jnp.ones((), bool),
    params={'seen': jnp.zeros(())},
    constants={},
    opt_state={},
  )

  def evaluate(variables, should_stop):
    if should_stop():
      raise Stopped
    assert float(variables['params']['seen']) > 0
    names = ('R@1', 'R@5', 'R@10', 'R@100')
    position = loop._position.step // STEPS
    return {
      **dict.fromkeys(names, 1.0),
      'split': 'val',
      'SumR': float(sums[position - 1]),
    }

  loop = Loop(
    update=step,
    state=parallel.replicate(state, mesh),
    mesh=mesh,
    batches_from=Feed,
    evaluate=evaluate,
    learning_rate=lambda count: 0.1,
    checkpoints=RunCheckpoints(folder),
    log=lambda at: MetricLog(folder, at),
    stop=StopRequest() if stop is None else stop,
    options=LoopOptions(
      epochs=len(sums),
      steps_per_epoch=STEPS,
      patience=patience,
      log_every=1,
      checkpoint_every=0,
      show=False,
      **options,
    ),
  )
  return loop


def test_best_is_strictly_greater_and_first(tmp_path):
  outcome = make_loop(tmp_path, [3, 5, 5, 4]).run()
  assert outcome.status == 'finished'
  assert outcome.position.best['epoch'] == 2
  assert best_info(tmp_path)['step'] == 2 * STEPS


@pytest.mark.parametrize(('patience', 'epochs'), [(0, 2), (1, 3), (2, 4)])
def test_stops_after_more_failures_than_patience(tmp_path, patience, epochs):
  outcome = make_loop(tmp_path, [9, 8, 7, 6, 5, 4], patience=patience).run()
  assert outcome.status == 'early'
  assert outcome.position.evaluated_epochs == epochs


def test_a_new_best_resets_the_count(tmp_path):
  outcome = make_loop(tmp_path, [2, 1, 3, 1, 4, 1], patience=1).run()
  assert outcome.status == 'finished'
  assert outcome.position.best['epoch'] == 5


def test_every_batch_is_seen_once(tmp_path):
  loop = make_loop(tmp_path, [1, 2, 3])
  loop.run()
  assert float(loop._state.params['seen']) == sum(range(1, 3 * STEPS + 1))


def test_stop_request_between_steps_then_resume(tmp_path):
  with StopRequest() as stop:

    def stopping(state, batch):
      if int(state.step) == 2:
        signal.raise_signal(signal.SIGTERM)
      return update(state, batch)

    outcome = make_loop(tmp_path, [1, 2, 3], stop=stop, step=stopping).run()
  assert outcome.status == 'interrupted'
  assert outcome.position.step == 3
  again = make_loop(tmp_path, [1, 2, 3])
  assert again.run().status == 'finished'
  assert float(again._state.params['seen']) == sum(range(1, 3 * STEPS + 1))
  steps = [r['step'] for r in read_rows(tmp_path) if r['kind'] == 'train']
  assert steps == list(range(1, 3 * STEPS + 1))


def test_stop_request_in_an_evaluation(tmp_path):
  with StopRequest() as stop:
    loop = make_loop(tmp_path, [1, 2], stop=stop)
    original = loop._finish_epoch

    def interrupted(done):
      signal.raise_signal(signal.SIGTERM)
      return original(done)

    loop._finish_epoch = interrupted
    assert loop.run().status == 'interrupted'
  again = make_loop(tmp_path, [1, 2])
  assert again._position.step == STEPS
  assert again._position.evaluated_epochs == 0
  assert again.run().status == 'finished'


def test_not_finite_keeps_the_last_good_state(tmp_path):
  broken = make_loop(
    tmp_path, [1, 2, 3], step=lambda s, b: update(s, b, bad_step=3)
  )
  with pytest.raises(NotFiniteError, match=r'loss/part .* at step 3 \(epoch 2'):
    broken.run()
  again = make_loop(tmp_path, [1, 2, 3])
  assert again._position.step == 3
  assert float(again._state.params['seen']) == 1 + 2 + 3
  assert again.run().status == 'finished'


def test_rows_after_the_last_checkpoint_are_written_again(tmp_path):
  rows = [{'kind': 'train', 'step': step} for step in (1, 2, 3)]
  text = ''.join(json.dumps(row) + '\n' for row in rows) + '{"kind": "tr'
  (tmp_path / 'metrics.jsonl').write_text(text)
  assert [row['step'] for row in read_rows(tmp_path)] == [1, 2, 3]
  MetricLog(tmp_path, from_step=2).close()
  assert [row['step'] for row in read_rows(tmp_path)] == [1, 2]


def test_second_ctrl_c_interrupts_at_once():
  with StopRequest() as stop:
    signal.raise_signal(signal.SIGINT)
    assert stop
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
