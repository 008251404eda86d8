"""The inputs of updates, their times, and the number of updates."""

import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.train.feeders import (
  BatchFeeder,
  GatheredBatches,
  HostBatches,
  SplitFeeder,
)
from dreamprvr_jax.types import Batch


class Stream:
  """Batches whose content is their number; it records its calls."""

  def __init__(self, position, diary):
    self.position, self.diary = position, diary

  def __next__(self):
    self.diary.append(f'made {self.position}')
    if self.position == 7:
      raise RuntimeError('batch 7 is bad')
    rows = np.full((8,), self.position, np.float32)
    self.position += 1
    return dict.fromkeys(Batch.__dataclass_fields__, rows)

  def close(self):
    self.diary.append('closed')


@pytest.fixture
def diary():
  return []


@pytest.fixture
def host(diary):
  def update(state, batch):
    diary.append(f'issued {int(batch.clip_features[0])}')
    return state + 1, {'loss': jnp.zeros(())}

  mesh = meshes.make_mesh(1)
  return BatchFeeder(
    update, lambda position: HostBatches(Stream(position, diary), mesh)
  )


def test_next_batch_is_made_while_the_update_runs(host, diary):
  state = 0
  for first in (3, 4):
    state, scalars, count = host.advance(state, first, 9)
    assert (count, list(scalars)) == (1, ['loss'])
  assert state == 2
  assert diary == ['made 3', 'issued 3', 'made 4', 'issued 4', 'made 5']


def test_another_position_starts_anew(host, diary):
  host.advance(0, 3, 1)
  diary.clear()
  host.advance(0, 5, 1)
  assert diary == ['closed', 'made 5', 'issued 5', 'made 6']


def test_closing_ends_the_stream(host, diary):
  host.close()
  assert diary == []
  host.advance(0, 0, 1)
  host.close()
  host.close()
  assert diary[-1] == 'closed'
  assert diary.count('closed') == 1


def test_an_error_of_the_stream_comes_out(host):
  host.advance(0, 5, 1)
  with pytest.raises(RuntimeError, match='batch 7'):
    host.advance(0, 6, 1)


def test_gathered_batches_go_on_from_their_position():
  gathered = GatheredBatches(
    lambda split, number, slots: (split, int(number), slots),
    'the split',
    lambda number: 8 * number,
    5,
  )
  assert [next(gathered) for _ in range(2)] == [
    ('the split', 5, 40),
    ('the split', 6, 48),
  ]
  gathered.close()


def device_calls(slots, most, first=0, room=99):
  """Returns the (count, slots) of the calls until the slots run out."""
  calls = []

  def steps(state, split, count, size):
    assert split == 'the split'
    assert count.dtype == np.int32
    calls.append((int(count), size))
    return state + count, {'loss': jnp.zeros((most,))}

  feeder = SplitFeeder(steps, 'the split', lambda n: slots[n], most)
  state = first
  while state < len(slots):
    left = min(room, len(slots) - state)
    after, _, count = feeder.advance(state, state, left)
    assert after == state + count
    state = after
  feeder.close()
  return calls


def test_calls_have_batches_of_one_size():
  sizes = [16, 16, 16, 32, 16, 16]
  assert device_calls(sizes, 9) == [(3, 16), (1, 32), (2, 16)]
  assert device_calls(sizes, 2) == [(2, 16), (1, 16), (1, 32), (2, 16)]
  assert device_calls(sizes, 9, first=1) == [(2, 16), (1, 32), (2, 16)]


def test_calls_are_not_longer_than_asked():
  assert device_calls([8] * 7, 5, room=3) == [(3, 8), (3, 8), (1, 8)]
  assert device_calls([8] * 7, 5) == [(5, 8), (2, 8)]
  assert device_calls([8] * 3, 1) == [(1, 8)] * 3
