"""Runs a command, with exit codes, signals and logging."""

import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from absl.flags import FlagValues
from ml_collections import ConfigDict

from dreamprvr_jax.cli import flags
from dreamprvr_jax.cli import help as help_texts
from dreamprvr_jax.cli.command import Form
from dreamprvr_jax.cli.variants import split_overrides
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.host_memory import keep_freed_pages


def _run(argv: list[str]) -> int:
  """Runs one command; returns its exit code."""
  values = flags.parse(argv)
  form = flags.form_of(values)
  if form.devices:
    _start_devices(values)
  # Imported here so that help and typos are answered without waiting for JAX.
  module, _, name = form.run.partition(':')
  command = importlib.import_module(f'dreamprvr_jax.cli.{module}')
  others = _others(values, form, argv)
  arguments = flags.fill(getattr(command, form.arguments), values, form, others)
  function = getattr(command, name)
  if form.given == 'config':
    return function(values.config, arguments)
  if form.given == 'config_of':
    return function(arguments, lambda given: _config_of([argv[0], *given]))
  return function(arguments)


def _start_devices(values: FlagValues) -> None:
  """Sets JAX up, together with the other processes."""
  # This must come before JAX starts its threads: a thread keeps the heap it
  # started with.
  keep_freed_pages()
  from dreamprvr_jax.devices import processes, programs

  processes.join(values.coordinator, values.num_processes, values.process_id)
  programs.keep(values.config.compilation_cache)


def _others(
  values: FlagValues, form: Form, argv: list[str]
) -> Mapping[str, Any]:
  """Returns fields of a command's dataclass that are not plain flags."""
  config = flags.peek(argv, 'config')
  if form.given == 'config_of':
    return {'config': config, 'overrides': split_overrides(argv)[0]}
  others = {}
  evaluated = values.mode == 'evaluate' and not values.checkpoint
  if (values.mode == 'train' or evaluated) and not values.workdir:
    others['workdir'] = flags.default_workdir(config)
  if values.mode == 'train':
    others['given'] = flags.given_keys(values)
  return others


def _config_of(argv: list[str]) -> ConfigDict:
  """Returns the config of a run of a table."""
  return flags.parse(argv).config


def _interrupt(number: int, frame: object) -> None:
  """Makes SIGTERM end a command as Ctrl-C does; later ones are ignored."""
  del frame
  signal.signal(number, signal.SIG_IGN)
  raise KeyboardInterrupt('SIGTERM')


def _start_logging() -> None:
  """Shows our own messages, and warnings and errors of libraries."""
  logging.basicConfig(
    level=logging.WARNING, format='%(asctime)s %(message)s', datefmt='%H:%M:%S'
  )
  for name in ('dreamprvr_jax', 'data_pipeline'):
    logging.getLogger(name).setLevel(logging.INFO)


def _show_any_name() -> None:
  """Escapes characters that the output cannot encode, such as surrogates."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')


def _show_help(argv: list[str]) -> int:
  """Prints the help; returns the exit code."""
  try:
    print(help_texts.text(argv), flush=True)
  except BrokenPipeError:
    # The reader, such as `head`, has closed the pipe: a second flush at exit
    # must not fail.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return 0


def _fail(message: object) -> int:
  print(f'error: {message}', file=sys.stderr)
  return 2


def main(argv: list[str]) -> int:
  """Parses the command line, runs it, and returns the exit code."""
  _start_logging()
  _show_any_name()
  former = signal.signal(signal.SIGTERM, _interrupt)
  try:
    if help_texts.is_wanted(argv):
      return _show_help(argv)
    return _run(argv)
  except UserError as error:
    return _fail(error)
  except OSError as error:
    return _fail(
      f'{error.filename or "a file"}: {error.strerror or error}; check that it '
      'exists, that it may be read or written, and that the disk has room'
    )
  except KeyboardInterrupt as stop:
    kept = '; what was finished is kept, the same command continues'
    is_server = 'serve' in (*argv[1:2], flags.peek(argv, 'mode'))
    print('stopped' + ('' if is_server else kept), file=sys.stderr)
    return 143 if stop.args == ('SIGTERM',) else 130
  finally:
    # A second SIGTERM, while Python shuts down, would change the exit code.
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
      signal.signal(signal.SIGTERM, former)


def run() -> NoReturn:
  """Runs the command line of this process and ends it."""
  # XLA's own messages do not help users: failures are raised as well, and what
  # is only logged as an error are slow compilations, or kept programs that
  # name a preference of the CPU (not an instruction) which XLA does not find.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  sys.exit(main(sys.argv))
