"""Questions of many users, answered together."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from dreamprvr_jax.archive.serving.errors import Busy, Late

_log = logging.getLogger(__name__)

Question = TypeVar('Question')
Answer = TypeVar('Answer')


class Batcher(Generic[Question, Answer]):
  """Gathers questions for a moment, and has them answered in one call.

  While a call runs, questions gather for the next one. All methods are for
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
      answer: Gives the answers of up to `size` questions, in their order; an
        exception is the answer of that question alone.
      size: Questions of a call, at most.
      wait: Seconds that the first question of a call waits for others.
      waiting: Questions that wait for a call, at most.
      seconds: Until a question is given up.
    """
    self._answer, self._size, self._wait = answer, size, wait
    self._room, self._seconds = waiting, seconds
    self._queue: asyncio.Queue[tuple[Question, asyncio.Future[Answer]]]
    self._task: asyncio.Task[None] | None = None

  @property
  def waiting(self) -> int:
    """Questions that no call has taken yet."""
    return self._queue.qsize() if self._task else 0

  def start(self) -> None:
    """Starts to answer."""
    self._queue = asyncio.Queue(self._room)
    self._task = asyncio.create_task(self._run())

  async def stop(self) -> None:
    """Ends it; questions that wait are not answered."""
    if self._task:
      self._task.cancel()
      with contextlib.suppress(asyncio.CancelledError):
        await self._task
      self._task = None

  async def ask(self, question: Question) -> Answer:
    """Returns the answer.

    Raises:
      Busy: If too many wait.
      Late: If there is no answer in time.
      Exception: Whatever `answer` has for this question.
    """
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    try:
      self._queue.put_nowait((question, future))
    except asyncio.QueueFull:
      raise Busy(f'{self._room} queries are waiting') from None
    try:
      return await asyncio.wait_for(future, self._seconds)
    except TimeoutError:
      raise Late(f'no answer within {self._seconds:g} seconds') from None

  async def _run(self) -> None:
    while True:
      batch = await self._gather()
      # Those that were given up while they waited cost no more.
      batch = [(q, future) for q, future in batch if not future.done()]
      if not batch:
        continue
      answers: Sequence[Any]
      try:
        answers = await self._answer([question for question, _ in batch])
      except Exception as error:  # Raised where each of them waits.
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
    """Returns the next questions, once there is one."""
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
