"""An open index with all that a server needs, and the thread of the device."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.archive.search.index import Hit, Index
from dreamprvr_jax.archive.search.neighbours import Neighbours
from dreamprvr_jax.archive.serving.answers import (
  SIZES,
  Answers,
  BadQuery,
  Query,
)
from dreamprvr_jax.archive.serving.batching import Batcher
from dreamprvr_jax.archive.serving.files import VideoFiles
from dreamprvr_jax.archive.serving.limits import Busy, Late, Limits
from dreamprvr_jax.archive.serving.metrics import Metrics
from dreamprvr_jax.archive.serving.thumbnails import Thumbnails
from dreamprvr_jax.text import normal

_log = logging.getLogger(__name__)

# Seconds that a query waits for others that may come with it.
_WAIT = 0.004


class Service:
  """An index, open for many users at once.

  Later changes of the index and of the folder of files are not seen.

  Attributes:
    index: The index.
    files: The video files.
    limits: The limits of requests.
    semantic: Whether the text encoder understands words.
    metrics: The server's metrics.
    thumbnails: Makes pictures.
    row_of: {id: row} of the videos.
    status: 'warming up', 'ready' or 'stopping'.
    failure: The error of warming up, if any.
  """

  def __init__(
    self,
    index: Index,
    words: Callable[[str], Float[np.ndarray, 'l e']],
    files: VideoFiles | None = None,
    *,
    semantic: bool = True,
    limits: Limits | None = None,
    on_failure: Callable[[], None] = lambda: None,
  ):
    """Starts nothing yet.

    Args:
      index: The index.
      words: Makes the word features of a text that the index's retriever was
        trained on.
      files: The video files.
      semantic: Whether the text encoder understands words.
      limits: The limits of requests.
      on_failure: Called if warming up fails.

    Raises:
      UserError: If the index is empty.
    """
    self.index, self.files = index, files or VideoFiles()
    self.limits, self.semantic = limits or Limits(), semantic
    self.metrics, self.on_failure = Metrics(), on_failure
    self.thumbnails = Thumbnails(
      waiting=self.limits.pictures, kept_bytes=self.limits.picture_bytes
    )
    self.row_of = index.store.rows_of()
    self._named = {normal(video): video for video in self.row_of}
    self.status, self.failure = 'warming up', None
    self._answers = Answers(index, words)
    self._batcher = Batcher[Query, list[Hit]](
      self._answer,
      size=SIZES[-1],
      wait=_WAIT,
      waiting=self.limits.waiting,
      seconds=self.limits.seconds,
    )

  @functools.cached_property
  def neighbours(self) -> Neighbours:
    """Finds similar videos."""
    return Neighbours(self.index.store)

  @property
  def waiting(self) -> int:
    """How many queries wait for the device."""
    return self._batcher.waiting

  def named(self, video: str) -> str | None:
    """Returns the id of a video in any Unicode form; None if the index has no
    such video."""
    return video if video in self.row_of else self._named.get(normal(video))

  def duration(self, video: str) -> float:
    """Returns the seconds of a video; NaN if unknown."""
    row = self.row_of[video]
    return float(self.index.store.read('durations', row, row + 1)[0])

  async def search(self, query: Query) -> list[Hit]:
    """Returns the hits of a query.

    Raises:
      Busy: If it is not ready, or too many queries wait.
      Late: If there is no answer in time.
      BadQuery: If the query cannot be encoded.
    """
    try:
      if self.status != 'ready':
        raise Busy(f'the server is {self.status}')
      return await self._batcher.ask(query)
    except BadQuery:
      raise
    except Exception as error:  # Counted, and raised again.
      reason = {Busy: 'busy', Late: 'late'}.get(type(error), 'failed')
      self.metrics.refused.labels(reason).inc()
      raise

  @contextlib.asynccontextmanager
  async def running(self) -> AsyncIterator[None]:
    """Warms up in the background, and answers inside the block."""
    # One thread, so that the device does one thing after the other.
    self._thread = ThreadPoolExecutor(1, thread_name_prefix='search')
    self._batcher.start()
    warming = asyncio.get_running_loop().run_in_executor(
      self._thread, self._warm_up
    )
    try:
      yield
    finally:
      self.status = 'stopping'
      await self._batcher.stop()
      await warming
      self._thread.shutdown()

  def _warm_up(self) -> None:
    began = time.perf_counter()
    try:
      for done in self._answers.warm_up():
        _log.info('warming up: %s', done)
        if self.status == 'stopping':
          return
      self.neighbours.nearest(next(iter(self.row_of)), 1)
    except Exception as error:  # Raised again when the server ends.
      self.failure = error
      self.on_failure()
      return
    if self.status == 'warming up':
      self.status = 'ready'
      _log.info('ready after %.1f seconds', time.perf_counter() - began)

  async def _answer(
    self, batch: Sequence[Query]
  ) -> Sequence[list[Hit] | Exception]:
    self.metrics.batch.observe(len(batch))
    with self.metrics.device.time():
      return await asyncio.get_running_loop().run_in_executor(
        self._thread, self._answers, batch
      )
