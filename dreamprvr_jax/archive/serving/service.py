"""An open index with all that a server needs, and the thread of the device."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from dreamprvr_jax.archive.index.manifest import Manifest
from dreamprvr_jax.archive.serving.answers import (
  SIZES,
  Answer,
  BadQuery,
  Query,
)
from dreamprvr_jax.archive.serving.batching import Batcher
from dreamprvr_jax.archive.serving.contents import Contents
from dreamprvr_jax.archive.serving.conversions import Conversions, cache_folder
from dreamprvr_jax.archive.serving.limits import Busy, Late, Limits
from dreamprvr_jax.archive.serving.metrics import Metrics
from dreamprvr_jax.archive.serving.thumbnails import Thumbnails
from dreamprvr_jax.archive.serving.verification import Background
from dreamprvr_jax.archive.serving.watch import Watch
from dreamprvr_jax.errors import UserError

_log = logging.getLogger(__name__)

# Seconds that a query waits for others that may come with it.
_WAIT = 0.004
# Seconds between two looks at the index, and after a failure to open it.
_LOOK, _RETRY = 2.0, 30.0
# Between two changes that are followed, so many times what following took.
_PAUSE = 5


class Service:
  """An index, open for many users at once; a changed one replaces it.

  Attributes:
    contents: The index with its files; read it once for a request, as it may
      be replaced at any time.
    limits: The limits of requests.
    metrics: The server's metrics.
    thumbnails: Makes pictures.
    conversions: Converts videos for browsers.
    verification: Finds damaged files of the index.
    status: 'warming up', 'ready' or 'stopping'.
    failure: The error of warming up, if any.
  """

  def __init__(
    self,
    contents: Contents,
    *,
    reopen: Callable[[Contents], Contents] | None = None,
    limits: Limits | None = None,
    cache: os.PathLike[str] | str = '',
    on_failure: Callable[[], None] = lambda: None,
  ):
    """Starts nothing yet.

    Args:
      contents: The index with its files.
      reopen: Opens the index again, for the former contents; None to serve the
        same contents for ever.
      limits: The limits of requests.
      cache: The folder for converted videos; '' for the user's own.
      on_failure: Called if warming up fails.
    """
    self.contents, self._reopen = contents, reopen
    self.limits = limits or Limits()
    self.metrics, self.on_failure = Metrics(), on_failure
    self.thumbnails = Thumbnails(
      waiting=self.limits.pictures, kept_bytes=self.limits.picture_bytes
    )
    self.conversions = Conversions(
      cache or cache_folder(),
      most_bytes=self.limits.converted_bytes,
      running=self.limits.conversions,
      waiting=self.limits.waiting_conversions,
    )
    self.verification = Background(contents.index.store.directory)
    self.status, self.failure = 'warming up', None
    self._batcher = Batcher[Query, tuple[Contents, Answer]](
      self._answer,
      size=SIZES[-1],
      wait=_WAIT,
      waiting=self.limits.waiting,
      seconds=self.limits.seconds,
    )

  @property
  def waiting(self) -> int:
    """How many queries wait for the device."""
    return self._batcher.waiting

  async def search(self, query: Query) -> tuple[Contents, Answer]:
    """Returns the answer to a query, and the contents that it comes from.

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
    watching = asyncio.create_task(self._watch(warming))
    self.verification.start()
    try:
      yield
    finally:
      self.status = 'stopping'
      self.verification.stop()
      watching.cancel()
      with contextlib.suppress(asyncio.CancelledError):
        await watching
      await self._batcher.stop()
      await warming
      self._thread.shutdown()

  def _warm_up(self) -> None:
    began = time.perf_counter()
    try:
      self._prepare(self.contents, logging.INFO)
    except Exception as error:  # Raised again when the server ends.
      self.failure = error
      self.on_failure()
      return
    if self.status == 'warming up':
      self.status = 'ready'
      _log.info('ready after %.1f seconds', time.perf_counter() - began)

  def _prepare(self, contents: Contents, level: int) -> None:
    """Compiles and loads all that answers need, unless the server stops; logs
    each step."""
    for done in contents.answers.warm_up():
      _log.log(level, 'warming up: %s', done)
      if self.status == 'stopping':
        return
    if len(contents):
      contents.neighbours.nearest(contents.first(), 1)
    contents.ordered('name')

  async def _watch(self, warming: Awaitable[None]) -> None:
    """Opens the index again when it has changed."""
    if not self._reopen:
      return
    watch = Watch(self.contents.index.store.directory)
    await asyncio.wait([asyncio.ensure_future(warming)])
    # A change before this method has begun shows in the content.
    pending, seconds, complaint = True, _LOOK, ''
    while self.status == 'ready':
      pending = watch.changed() or pending
      if pending:
        began = time.perf_counter()
        try:
          # Not in the thread of the device: searches go on meanwhile.
          await asyncio.to_thread(self._renew, self._reopen)
        except Exception as error:  # The former contents stay.
          if str(error) != complaint:
            _log.error(
              'the index has changed and cannot be opened, so the former one '
              'is served: %s',
              error,
              exc_info=None if isinstance(error, UserError) else error,
            )
          complaint, seconds = str(error), _RETRY
        else:
          # A command that changes it again and again gets little of the time.
          pending, complaint = False, ''
          seconds = max(_LOOK, _PAUSE * (time.perf_counter() - began))
      await asyncio.sleep(seconds)
      seconds = _LOOK if not complaint else _RETRY

  def _renew(self, reopen: Callable[[Contents], Contents]) -> None:
    """Replaces the contents if the index has changed."""
    former = self.contents
    directory = former.index.store.directory
    if Manifest.read(directory) == former.index.manifest:
      return
    began = time.perf_counter()
    found = reopen(former)
    self._prepare(found, logging.DEBUG)
    self.contents = found
    _log.info(
      'the index has changed: %d videos now, %d before; opened in %.1f s',
      len(found),
      len(former),
      time.perf_counter() - began,
    )

  async def _answer(
    self, batch: Sequence[Query]
  ) -> Sequence[tuple[Contents, Answer] | Exception]:
    self.metrics.batch.observe(len(batch))
    contents = self.contents
    with self.metrics.device.time():
      found = await asyncio.get_running_loop().run_in_executor(
        self._thread, contents.answers, batch
      )
    return [x if isinstance(x, Exception) else (contents, x) for x in found]
