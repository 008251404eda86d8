"""Batch jobs: work on many elements, in many processes, with Apache Beam.

The work leaves its result in a folder that all machines share; nothing is sent
back. An engine may do an element twice, so the work must give the same result
again.
"""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import pickle
import re
import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dreamprvr_jax.errors import UserError

ENGINES = ('beam',)
# Marks the sentence of an element that was refused.
_REFUSED = 'refused by dreamprvr_jax: '
# The folder that workers import from.
_ROOT = pathlib.Path(__file__).resolve().parents[3]


@dataclasses.dataclass(frozen=True)
class Engine:
  """An engine that runs batch jobs.

  Attributes:
    name: One of `ENGINES`.
    options: The engine's own flags, as on a command line; without a runner they
      are added to the flags of the local one.
    workers: Processes of the local runner; 0 for one per core.
  """

  name: str
  options: str = ''
  workers: int = 0

  def __post_init__(self):
    if self.name not in ENGINES:
      raise UserError(
        f'--engine={self.name} is unknown; choose {", ".join(ENGINES)}, or '
        'leave it out to use processes of this machine'
      )
    if self.workers < 0:
      raise UserError(f'--workers={self.workers}; give 0 or more')

  @classmethod
  def of(cls, name: str, options: str, workers: int) -> 'Engine | None':
    """Returns the engine that a command line names; None if none."""
    if options and not name:
      raise UserError('--engine_options needs --engine=beam')
    return cls(name, options, workers) if name else None

  @property
  def processes(self) -> int:
    """How many processes the local runner starts."""
    return self.workers or os.cpu_count() or 1

  @property
  def flags(self) -> list[str]:
    """Beam's flags.

    Raises:
      UserError: If `options` cannot be split into flags.
    """
    try:
      given = shlex.split(self.options)
    except ValueError as error:
      raise UserError(
        f'--engine_options={self.options} cannot be read: {error}'
      ) from None
    local = [
      # Not DirectRunner, which first tries to download and start a Go program.
      '--runner=FnApiRunner',
      # New processes, not forks: threads and JAX do not survive a fork.
      '--direct_running_mode=multi_processing',
      f'--direct_num_workers={self.processes}',
    ]
    if any(flag.partition('=')[0] == '--runner' for flag in given):
      return given
    return [*local, *given]

  def run(self, work: Callable[[Any], object], elements: Sequence[Any]) -> None:
    """Does the work on every element; returns when all are done.

    Args:
      work: A function at the top level of a module that workers can import.
      elements: Plain values.

    Raises:
      UserError: If Beam is not installed, or the job failed.
    """
    beam, PipelineOptions = _import()
    try:
      options = PipelineOptions(self.flags)
      # Beam reads the flags only now.
      options.get_all_options()
      pipeline = beam.Pipeline(options=options)
    except (SystemExit, ValueError, ImportError, AttributeError) as error:
      raise UserError(
        f'--engine_options={self.options} are not accepted by Beam '
        f'({_sentence(error)}); its documentation lists the options of each '
        'runner'
      ) from error
    (
      pipeline
      # Beam passes bytes on as they are.
      | 'elements' >> beam.Create([pickle.dumps((work, e)) for e in elements])
      # Otherwise all elements would go to one worker.
      | 'share' >> beam.Reshuffle()
      | 'work' >> beam.Map(_do)
    )
    with _found_by_workers(), _ended_with_a_worker():
      try:
        result = pipeline.run()
        state = result.wait_until_finish() or result.state
      except _WorkerEnded:
        raise _failed('a worker process ended (out of memory?)') from None
      except Exception as error:
        why = _reason(error)
        if why is None:
          # A bug: its traceback says where.
          raise
        raise _failed(why) from error
    if str(state) != 'DONE':
      raise _failed(f'its state is {state}')


def _do(element: bytes) -> None:
  # Beam logs each connection that it opens.
  logging.getLogger('apache_beam').setLevel(logging.WARNING)
  work, value = pickle.loads(element)
  try:
    work(value)
  except UserError as error:
    # Only the text of an error comes back, inside other errors' texts.
    raise RuntimeError(f'{_REFUSED}{json.dumps(str(error))}') from error


def _reason(error: Exception) -> str | None:
  """Returns why a job failed: an element was refused, or machines cannot be
  reached. None if the error is a bug of the program."""
  import grpc  # A requirement of Beam.

  refused = re.search(rf'{_REFUSED}("(?:[^"\\]|\\.)*")', str(error))
  if refused:
    return json.loads(refused[1])
  if isinstance(error, grpc.Call):
    return f'{error.details()} ({error.code().name})'
  if isinstance(error, grpc.FutureTimeoutError):
    return 'its machines cannot be reached'
  return None


def _import() -> tuple[Any, Any]:
  try:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError as error:
    raise UserError(
      f'--engine=beam needs Apache Beam, which cannot be imported ({error}); '
      "install it: pip install 'dreamprvr_jax[batch]' or pip install "
      'apache-beam'
    ) from None
  return apache_beam, PipelineOptions


@contextlib.contextmanager
def _found_by_workers() -> Iterator[None]:
  """Lets local workers import this program, installed or not."""
  former = os.environ.get('PYTHONPATH')
  parts = [str(_ROOT), *([former] if former else [])]
  os.environ['PYTHONPATH'] = os.pathsep.join(parts)
  try:
    yield
  finally:
    if former is None:
      del os.environ['PYTHONPATH']
    else:
      os.environ['PYTHONPATH'] = former


class _WorkerEnded(BaseException):
  """A local worker has died."""


@contextlib.contextmanager
def _ended_with_a_worker() -> Iterator[None]:
  """Raises _WorkerEnded in the main thread when a local worker dies; the local
  runner would wait for it forever."""
  main = threading.main_thread()
  if threading.current_thread() is not main:
    yield
    return

  def stop(*_: object) -> None:
    # Raise only once.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    raise _WorkerEnded

  def hook(args: Any) -> None:
    # This thread of Beam waits for a worker's process; others only lose their
    # connection.
    if args.thread is not None and args.thread.name == 'run_worker':
      signal.pthread_kill(main.ident or 0, signal.SIGUSR1)
    elif args.exc_type.__name__ != 'RpcError':
      former_hook(args)

  former_hook, threading.excepthook = threading.excepthook, hook
  former = signal.signal(signal.SIGUSR1, stop)
  try:
    yield
  finally:
    signal.signal(signal.SIGUSR1, former)
    threading.excepthook = former_hook


def _sentence(error: BaseException) -> str:
  """Returns the last line of a worker's error, without its frame."""
  lines = [line for line in str(error).splitlines() if line.strip()]
  last = lines[-1] if lines else type(error).__name__
  return re.sub(r'^[\w.]+Error: | \[while running [^]]*\]$', '', last.strip())


def _failed(why: str) -> UserError:
  return UserError(
    f'the batch job of --engine=beam failed: {why}; finished work is kept: '
    'mend this and run the same command again'
  )
