"""Queries are batched, with limits on their number and waiting time."""

import asyncio

import pytest

from dreamprvr_jax.archive.serving.batching import Batcher
from dreamprvr_jax.archive.serving.limits import Busy, Late


class Doubler:
  """Answers once it is allowed to; records the queries."""

  def __init__(self):
    self.calls = []
    self.go = asyncio.Event()
    self.go.set()

  async def __call__(self, batch):
    self.calls.append(list(batch))
    await self.go.wait()
    return [ValueError(f'bad {x}') if x < 0 else 2 * x for x in batch]


def run(test, **options):
  async def main():
    doubler = Doubler()
    given = {'size': 4, 'wait': 0.05, 'waiting': 8, 'seconds': 5} | options
    batcher = Batcher(doubler, **given)
    batcher.start()
    await test(batcher, doubler)
    await batcher.stop()

  asyncio.run(main())


def test_questions_of_a_moment_are_answered_together():
  async def test(batcher, doubler):
    assert await asyncio.gather(*map(batcher.ask, range(6))) == [
      0,
      2,
      4,
      6,
      8,
      10,
    ]
    assert doubler.calls == [[0, 1, 2, 3], [4, 5]]
    assert await batcher.ask(7) == 14

  run(test)


def test_a_bad_question_harms_no_other():
  async def test(batcher, doubler):
    found = await asyncio.gather(
      *map(batcher.ask, [1, -1, 3]), return_exceptions=True
    )
    assert found[::2] == [2, 6]
    assert str(found[1]) == 'bad -1'
    assert len(doubler.calls) == 1

  run(test)


def test_a_failing_call_fails_its_questions_alone():
  async def test(batcher, doubler):
    batcher._answer, former = broken, batcher._answer
    with pytest.raises(RuntimeError, match='broken'):
      await batcher.ask(1)
    batcher._answer = former
    assert await batcher.ask(1) == 2

  async def broken(batch):
    raise RuntimeError('broken')

  run(test)


def test_what_nobody_waits_for_any_more_fails_in_the_log(caplog):
  async def test(batcher, doubler):
    doubler.go.clear()
    with pytest.raises(Late):
      await batcher.ask(-1)
    doubler.go.set()
    assert await batcher.ask(3) == 6
    assert 'ValueError: bad -1' in caplog.text

  run(test, seconds=0.1, wait=0.001)


def test_too_many_are_refused():
  async def test(batcher, doubler):
    doubler.go.clear()
    asked = [asyncio.create_task(batcher.ask(i)) for i in range(8)]
    await asyncio.sleep(0.1)
    # Four queries are in the call and four wait; four more fit.
    more = [asyncio.create_task(batcher.ask(i)) for i in range(8, 12)]
    await asyncio.sleep(0.01)
    assert batcher.waiting == 8
    with pytest.raises(Busy, match='8 queries are waiting'):
      await batcher.ask(12)
    doubler.go.set()
    assert await asyncio.gather(*asked, *more) == [2 * i for i in range(12)]

  run(test)


def test_what_is_late_is_given_up_and_costs_no_more():
  async def test(batcher, doubler):
    doubler.go.clear()
    with pytest.raises(Late, match=r'within 0\.1 seconds'):
      await batcher.ask(1)
    with pytest.raises(Late):
      await batcher.ask(2)
    doubler.go.set()
    assert await batcher.ask(3) == 6
    assert doubler.calls == [[1], [3]]

  run(test, seconds=0.1, wait=0.001)
