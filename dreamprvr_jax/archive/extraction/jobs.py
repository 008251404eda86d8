"""Extracting the files of a folder in several processes.

An encoder without a device works in the processes, a file at a time. One on a
device works in this process, and the others decode for it.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import tqdm

from dreamprvr_jax import folders
from dreamprvr_jax.archive.encoders import Encoder
from dreamprvr_jax.archive.extraction.decoders import (
  DEADLY,
  end_silently,
  is_sendable,
)
from dreamprvr_jax.archive.extraction.state import OWN, Source, State, keep
from dreamprvr_jax.archive.extraction.stretches import encode_files
from dreamprvr_jax.archive.extraction.video import (
  BATCH,
  Extracted,
  extract_file,
)
from dreamprvr_jax.archive.videos.files import VideoError
from dreamprvr_jax.archive.videos.finding import find_videos
from dreamprvr_jax.archive.videos.frames import LIMITS, Limits


@dataclasses.dataclass(frozen=True)
class Options:
  """How to extract.

  Attributes:
    fps: Samples per second.
    batch: Pictures that are encoded at a time.
    device: See `encoders.build`.
    workers: Processes; 0 for one per core, at most 16.
    progress: Whether a progress bar is shown.
    limits: How long a file may be.
  """

  fps: float = 2.0
  batch: int = BATCH
  device: str = ''
  workers: int = 0
  progress: bool = True
  limits: Limits = LIMITS

  @property
  def processes(self) -> int:
    """How many processes are started."""
    return self.workers or min(16, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class Job:
  """One file, in plain values that can be sent to another process."""

  name: str
  source: Source
  folder: str
  settings: dict[str, Any]
  batch: int
  device: str
  threads: int
  limits: Limits = LIMITS


@dataclasses.dataclass
class Summary:
  """The result of a command.

  Attributes:
    found: Number of files.
    done: Number of files that were extracted now.
    seconds: Seconds of video of these.
    there: Number of files that had been extracted before.
    skipped: {id: row} of the files that cannot be read, with its `reason`.
    durations: {id: seconds} of the videos in the feature file.
  """

  found: int
  done: int
  seconds: float
  there: int
  skipped: dict[str, dict[str, Any]]
  durations: dict[str, float]


# Runs jobs in so many processes; yields each with its seconds or the reason why
# it failed, as they come.
Results = Callable[[Sequence[Job], int], Iterator[tuple[Job, float | str]]]


def extract_folder(
  videos: str,
  folder: pathlib.Path,
  encoder: Encoder,
  options: Options,
  results: Results | None = None,
) -> Summary:
  """Extracts the videos of a folder that are not extracted yet.

  Each video is stored as soon as it is done, so that the next call goes on
  after a stop. Files that failed are tried again when they have changed.

  Args:
    videos: The folder of the files.
    folder: The folder of the collection, see `State`.
    encoder: Makes the features.
    options: How to extract.
    results: Runs the jobs; processes of this machine if None.

  Raises:
    DataError: If there is no video, or the collection has other settings.
    FolderError: If another command uses the collection's folder.
  """
  files = find_videos(videos)
  if results is None:
    device = encoder.on_device
    results = _encoded_here(encoder, options) if device else _results
  with folders.held(folder, 'collection'):
    return _extract_files(files, folder, encoder, options, results)


def _extract_files(
  files: Mapping[str, pathlib.Path],
  folder: pathlib.Path,
  encoder: Encoder,
  options: Options,
  results: Results,
) -> Summary:
  settings = {'encoder': encoder.identity, 'fps': float(options.fps)}
  state = State(folder, settings, options.limits)
  state.forget_reasons()
  sources: dict[str, Source] = {}
  for name, path in files.items():
    try:
      sources[name] = Source.of(path)
    except OSError as error:
      reason = f'cannot be read ({error.strerror})'
      state.skip(name, Source.gone(path), reason)
  workers = options.processes
  # A decoder's threads share the cores with the other processes.
  threads = max((os.cpu_count() or 1) // workers, 1)
  there = {name for name in sources if state.has(name, sources[name])}
  jobs = [
    Job(
      name,
      source,
      str(folder.absolute()),
      settings,
      options.batch,
      options.device,
      threads,
      options.limits,
    )
    for name, source in sources.items()
    if name not in there and not state.failed(name, source)
  ]
  seconds, done = 0.0, 0
  bar = tqdm.tqdm(
    total=len(files),
    initial=len(files) - len(jobs),
    desc='extracting',
    unit=' videos',
    dynamic_ncols=True,
    disable=not options.progress,
  )
  try:
    with bar:
      for job, found in results(jobs, workers):
        if isinstance(found, str):
          state.skip(job.name, job.source, found)
        else:
          seconds, done = seconds + found, done + 1
        bar.update()
  except BaseException:
    state.note()
    raise
  state.finish(encoder.identity)
  durations = {name: row['duration'] for name, row in state.videos.items()}
  skipped = {n: row for n, row in state.skipped.items() if n in files}
  return Summary(len(files), done, seconds, len(there), skipped, durations)


def extract(job: Job) -> float | str:
  """Extracts and stores one file; returns its seconds, or why it failed."""
  try:
    found = extract_file(
      job.source.file,
      job.settings['encoder'],
      job.settings['fps'],
      batch=job.batch,
      device=job.device,
      threads=job.threads,
      limits=job.limits,
    )
  except VideoError as error:
    return error.reason
  keep(job.folder, job.name, job.source, found)
  return found.duration


def attempt(work: Callable[[Job], float | str], job: Job) -> float | str:
  """Returns the result of `work`; runs in another process.

  Raises:
    RuntimeError: Instead of an error that cannot be sent to the parent process,
      which would take it for the end of this process.
  """
  try:
    return work(job)
  except Exception as error:
    if is_sendable(error):
      raise
    raise RuntimeError(traceback.format_exc()) from None


def _results(
  jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, float | str]]:
  """Yields each job with its result, as they come.

  If a process ends, the files that were running are tried again one by one. A
  file that ends its process again is one that cannot be read.
  """
  waiting = collections.deque(jobs)
  while waiting:
    suspects = yield from _pooled(waiting, min(workers, len(waiting)))
    for job in suspects:
      with new_pool(1) as pool:
        # If no process can start at all, that is not the file's fault.
        pool.submit(os.getpid).result()
      alone = collections.deque([job])
      if (yield from _pooled(alone, 1)):
        yield job, DEADLY


def _encoded_here(encoder: Encoder, options: Options) -> Results:
  """Returns a function that encodes files in this process, which other ones
  decode ahead of it."""

  def results(
    jobs: Sequence[Job], workers: int
  ) -> Iterator[tuple[Job, float | str]]:
    by_file = {job.source.file: job for job in jobs}
    if not by_file:
      return
    files = encode_files(
      by_file,
      encoder,
      options.fps,
      batch=options.batch,
      workers=workers,
      limits=options.limits,
      folder=os.path.join(jobs[0].folder, OWN),
    )
    with contextlib.closing(files):
      for found in files:
        job = by_file[found.path]
        if found.reason:
          yield job, found.reason
        else:
          extracted = Extracted(found.read(), found.duration)
          keep(job.folder, job.name, job.source, extracted)
          yield job, found.duration

  return results


def _pooled(
  waiting: collections.deque[Job], workers: int
) -> Iterator[tuple[Job, float | str]]:
  """Yields results until no job is waiting or a process has ended; then returns
  the running jobs."""
  others = set(multiprocessing.active_children())
  running: dict[concurrent.futures.Future, Job] = {}
  with new_pool(workers) as pool:
    try:
      while waiting or running:
        while waiting and len(running) < 2 * workers:
          running[pool.submit(attempt, extract, waiting[0])] = waiting[0]
          waiting.popleft()
        ended, _ = concurrent.futures.wait(
          running, return_when=concurrent.futures.FIRST_COMPLETED
        )
        for future in ended:
          result = future.result()
          yield running.pop(future), result
    except BrokenProcessPool:
      return list(running.values())
    except BaseException:
      # A video may take an hour, so running jobs are given up.
      pool.shutdown(wait=False, cancel_futures=True)
      for process in set(multiprocessing.active_children()) - others:
        process.terminate()
      raise
  return []


def new_pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
  """Returns processes for `extract`."""
  return concurrent.futures.ProcessPoolExecutor(
    workers,
    # Threads and the state of an accelerator do not survive a fork.
    mp_context=multiprocessing.get_context('spawn'),
    initializer=end_silently,
  )
