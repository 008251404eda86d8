"""The loop with a made-up update: stopping rules, resume, failures."""

import dataclasses
import json
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.checkpoints import RunCheckpoints, best_info
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.progress import Stopped
from dreamprvr_jax.train.feeders import BatchFeeder, HostBatches
from dreamprvr_jax.train.loop import Loop, LoopOptions
from dreamprvr_jax.train.metric_log import MetricLog, read_rows
from dreamprvr_jax.train.signals import StopRequest
from dreamprvr_jax.train.step import TrainState
from dreamprvr_jax.train.step_log import NotFiniteError
from dreamprvr_jax.types import Batch

STEPS = 2


class Feed:
  """Batches whose content is their position."""

  def __init__(self, position):
    self.position = position

  def __next__(self):
    self.position += 1
    rows = np.full((8,), self.position, np.float32)
    return dict.fromkeys(Batch.__dataclass_fields__, rows)

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
  # The batches are summed, so that a lost or repeated one shows.
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


class SeveralFeeder:
  """Makes all allowed updates in one call."""

  def __init__(self, step=update):
    self.step, self.calls = step, []

  def advance(self, state, first, count):
    self.calls.append((first, count))
    stream, rows = Feed(first), []
    for _ in range(count):
      state, scalars = self.step(state, Batch.from_dict(next(stream)))
      rows.append(scalars)
    stacked = {name: jnp.stack([row[name] for row in rows]) for name in rows[0]}
    # The scalars may have space for more updates than were made.
    return (
      state,
      {name: jnp.pad(value, (0, 2)) for name, value in stacked.items()},
      count,
    )

  def close(self):
    self.calls.append('closed')


def make_loop(
  folder,
  sums,
  *,
  stop=None,
  patience=10,
  smoothing=1,
  step=update,
  feeder=None,
  steps_per_epoch=STEPS,
  log_every=1,
  checkpoint_every=0,
):
  mesh = meshes.make_mesh(1)
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
    position = loop._position.step // steps_per_epoch
    return {
      **dict.fromkeys(names, 1.0),
      'split': 'val',
      'SumR': float(sums[position - 1]),
    }

  loop = Loop(
    feeder=feeder or BatchFeeder(step, lambda at: HostBatches(Feed(at), mesh)),
    state=meshes.replicate(state, mesh),
    evaluate=evaluate,
    learning_rate=lambda count: 0.1,
    checkpoints=RunCheckpoints(folder),
    log=lambda at: MetricLog(folder, at),
    stop=StopRequest() if stop is None else stop,
    options=LoopOptions(
      epochs=len(sums),
      steps_per_epoch=steps_per_epoch,
      patience=patience,
      smoothing=smoothing,
      log_every=log_every,
      checkpoint_every=checkpoint_every,
      show=False,
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


def test_one_lucky_epoch_does_not_stop_a_run_that_learns(tmp_path):
  sums = [1, 9, 2, 3, 4, 5, 6, 7]
  alone = make_loop(tmp_path / 'alone', sums, patience=2).run()
  assert (alone.status, alone.position.evaluated_epochs) == ('early', 5)
  mean = make_loop(tmp_path / 'mean', sums, patience=2, smoothing=3).run()
  assert mean.status == 'finished'
  assert mean.position.best['epoch'] == 2


def test_a_mean_that_falls_stops_a_run(tmp_path):
  # Means over two: 5, 5, 4, 3: the first can be no failure.
  loop = make_loop(tmp_path, [4, 6, 4, 4, 2, 2, 2], patience=1, smoothing=2)
  outcome = loop.run()
  assert (outcome.status, outcome.position.evaluated_epochs) == ('early', 4)


def test_a_resumed_run_keeps_its_mean(tmp_path):
  sums = [1, 9, 2, 3, 4, 5, 6, 7]
  options = {'patience': 2, 'smoothing': 3}
  make_loop(tmp_path, sums[:4], **options).run()
  again = make_loop(tmp_path, sums, **options)
  assert again._position.recent == [9, 2, 3]
  assert again.run().position.evaluated_epochs == 8


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


def train_rows(folder):
  """Returns the rows without their times."""
  rows = [row for row in read_rows(folder) if row['kind'] == 'train']
  assert all(row.pop('seconds_per_step') > 0 for row in rows)
  return rows


@pytest.mark.parametrize(('log_every', 'checkpoint_every'), [(3, 0), (4, 2)])
def test_many_updates_a_call_write_the_same_rows(
  tmp_path, log_every, checkpoint_every
):
  numbers = {
    'steps_per_epoch': 7,
    'log_every': log_every,
    'checkpoint_every': checkpoint_every,
  }
  feeder = SeveralFeeder()
  several = make_loop(tmp_path / 'a', [1, 2], feeder=feeder, **numbers)
  single = make_loop(tmp_path / 'b', [1, 2], **numbers)
  assert several.run() == single.run()
  assert train_rows(tmp_path / 'a') == train_rows(tmp_path / 'b')
  assert float(several._state.params['seen']) == sum(range(1, 15))
  ends = {first + count for first, count in feeder.calls[:-1]}
  rows = {*range(log_every, 15, log_every), 7, 14}
  saved = range(2, 15, 2) if checkpoint_every else ()
  assert ends == rows.union(saved)
  assert feeder.calls[-1] == 'closed'


def test_rows_wait_for_the_next_call_only(tmp_path):
  seen = []

  class Watching(SeveralFeeder):
    def advance(self, state, first, count):
      seen.append([row['step'] for row in read_rows(tmp_path)])
      return super().advance(state, first, count)

  loop = make_loop(
    tmp_path, [1], feeder=Watching(), steps_per_epoch=9, log_every=3
  )
  loop.run()
  assert seen == [[], [], [3]]
  assert [row['step'] for row in read_rows(tmp_path)] == [3, 6, 9, 9]


def test_not_finite_among_many_updates(tmp_path):
  broken = make_loop(
    tmp_path,
    [1],
    feeder=SeveralFeeder(lambda s, b: update(s, b, bad_step=4)),
    steps_per_epoch=9,
    log_every=3,
  )
  with pytest.raises(NotFiniteError, match=r'loss/part .* at step 4 \(epoch 1'):
    broken.run()
  again = make_loop(tmp_path, [1], steps_per_epoch=9)
  assert again._position.step == 4
  assert float(again._state.params['seen']) == 1 + 2 + 3 + 4


def test_stop_request_is_answered_after_the_call(tmp_path):
  with StopRequest() as stop:

    def stopping(state, batch):
      if int(state.step) == 4:
        signal.raise_signal(signal.SIGTERM)
      return update(state, batch)

    loop = make_loop(
      tmp_path,
      [1],
      stop=stop,
      feeder=SeveralFeeder(stopping),
      steps_per_epoch=9,
      log_every=3,
    )
    outcome = loop.run()
  assert (outcome.status, outcome.position.step) == ('interrupted', 6)
  assert [row['step'] for row in train_rows(tmp_path)] == [3, 6]
  again = make_loop(tmp_path, [1], steps_per_epoch=9)
  assert again.run().status == 'finished'
  assert float(again._state.params['seen']) == sum(range(1, 10))
