"""Extraction in a batch job: a worker extracts one file at a time."""

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from dreamprvr_jax.archive.extraction import jobs
from dreamprvr_jax.archive.extraction.jobs import Job
from dreamprvr_jax.archive.extraction.state import keep_reason, kept
from dreamprvr_jax.archive.jobs.engine import Engine
from dreamprvr_jax.errors import UserError

_one_at_a_time = threading.Lock()


def results_of(
  engine: Engine,
) -> Callable[[Sequence[Job], int], Iterator[tuple[Job, float | str]]]:
  """Returns the `results` of `extract_folder` that run on an engine."""

  def results(
    waiting: Sequence[Job], workers: int
  ) -> Iterator[tuple[Job, float | str]]:
    del workers
    error = None
    if waiting:
      try:
        engine.run(work, waiting)
      except UserError as failed:
        error = failed
    for job in waiting:
      found = kept(job.folder, job.name, job.source)
      if found is not None:
        yield job, found
      elif error is None:
        error = UserError(
          f'no worker left a result of {job.source.file} in {job.folder}; '
          '--out must be a folder that all machines share, under one path'
        )
    if error is not None:
      raise error

  return results


def work(job: Job) -> None:
  """Extracts and stores one file, or stores the reason why it failed."""
  if kept(job.folder, job.name, job.source) is not None:
    return
  # A broken file may end the process that decodes it, so that is not the
  # worker's own. One file at a time, so that it is clear which one is broken.
  with _one_at_a_time:
    pool = _pool()
    try:
      found = pool.submit(jobs.attempt, jobs.extract, job).result()
    except BrokenProcessPool:
      _pool.cache_clear()
      found = jobs.DEADLY
  if isinstance(found, str):
    keep_reason(job.folder, job.name, job.source, found)


@functools.cache
def _pool() -> ProcessPoolExecutor:
  pool = jobs.new_pool(1)
  # If no process can start at all, that is not the file's fault.
  pool.submit(os.getpid).result()
  return pool
