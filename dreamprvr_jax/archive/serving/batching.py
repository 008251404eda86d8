"""Questions of many users, answered in batches."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from dreamprvr_jax.archive.serving.limits import Busy, Late

_log = logging.getLogger(__name__)

Question = TypeVar('Question')
Answer = TypeVar('Answer')


class Batcher(Generic[Question, Answer]):
  """Gathers questions for a moment and answers them in one call.

  While a call runs, questions gather for the next one. All methods belong to
  one event loop.
  """

  def __init__(
    self,
    answer: Callable[
      [Sequence[Question]], Awaitable[Sequence[Answer | Exception]]
    ],
    *,
    size: int,
    wait: float,
    waiting: int,
    seconds: float,
  ):
    """Starts nothing yet.

    Args:
      answer: Returns the answers to up to `size` questions, in order; an
        exception answers that question alone.
      size: Questions of a call, at most.
      wait: Seconds that the first question of a call waits for others.
      waiting: Questions that wait for a call, at most.
      seconds: Seconds until a question is given up.
    """
    self._answer, self._size, self._wait = answer, size, wait
    self._waiting, self._seconds = waiting, seconds
    self._queue: asyncio.Queue[tuple[Question, asyncio.Future[Answer]]]
    self._task: asyncio.Task[None] | None = None

  @property
  def waiting(self) -> int:
    """How many questions no call has taken yet."""
    return self._queue.qsize() if self._task else 0

  def start(self) -> None:
    """Starts answering."""
    self._queue = asyncio.Queue(self._waiting)
    self._task = asyncio.create_task(self._run())

  async def stop(self) -> None:
    """Stops answering; waiting questions get no answer."""
    if self._task:
      self._task.cancel()
      with contextlib.suppress(asyncio.CancelledError):
        await self._task
      self._task = None

  async def ask(self, question: Question) -> Answer:
    """Returns the answer.

    Raises:
      Busy: If too many questions wait.
      Late: If there is no answer in time.
      Exception: The exception that `answer` returned for this question.
    """
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    try:
      self._queue.put_nowait((question, future))
    except asyncio.QueueFull:
      raise Busy(f'{self._waiting} queries are waiting') from None
    try:
      return await asyncio.wait_for(future, self._seconds)
    except TimeoutError:
      raise Late(f'no answer within {self._seconds:g} seconds') from None

  async def _run(self) -> None:
    while True:
      batch = await self._gather()
      # Questions that were given up while they waited are left out.
      batch = [(q, future) for q, future in batch if not future.done()]
      if not batch:
        continue
      answers: Sequence[Any]
      try:
        answers = await self._answer([question for question, _ in batch])
      except Exception as error:  # Raised for each question in `ask`.
        answers = [error] * len(batch)
      for (_, future), found in zip(batch, answers, strict=True):
        if future.done():
          if isinstance(found, Exception):
            _log.error('a query that was given up failed', exc_info=found)
        elif isinstance(found, Exception):
          future.set_exception(found)
        else:
          future.set_result(found)

  async def _gather(
    self,
  ) -> list[tuple[Question, asyncio.Future[Answer]]]:
    """Waits for a question; returns it with those that come soon after."""
    batch = [await self._queue.get()]
    loop = asyncio.get_running_loop()
    end = loop.time() + self._wait
    while len(batch) < self._size:
      if self._queue.empty():
        left = end - loop.time()
        if left <= 0:
          break
        try:
          batch.append(await asyncio.wait_for(self._queue.get(), left))
        except TimeoutError:
          break
      else:
        batch.append(self._queue.get_nowait())
    return batch
