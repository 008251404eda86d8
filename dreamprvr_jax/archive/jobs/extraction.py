"""Extraction of one file by a worker, and what became of it."""

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
  """Returns what `extract_folder` takes as `results`."""

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
  """Extracts and keeps one file; of one that cannot be read, the reason."""
  if kept(job.folder, job.name, job.source) is not None:
    return
  # A broken file may take its process with it, and that is not to be the
  # worker's. If others used it, the fault might be theirs.
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
  # If no process can be started at all, that is no fault of a file.
  pool.submit(os.getpid).result()
  return pool
