"""What runs a command: its exit codes, signals and logging."""

import dataclasses
import io
import logging
import os
import pathlib
import signal
import sys
from typing import Any, NoReturn

from absl.flags import FlagValues

from dreamprvr_jax.cli import flags
from dreamprvr_jax.cli import help as help_texts
from dreamprvr_jax.cli.variants import split_overrides
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.host_memory import keep_freed_pages


def _run(values: FlagValues, argv: list[str]) -> int:
  """Runs one command; returns its exit code."""
  flags.check(values)
  if values.mode in flags.SERIES:
    return _run_series(values, argv)
  if values.mode == 'extract':
    return _run_extraction(values)
  if values.mode in ('import', 'inspect') and flags.has_sources(values):
    return _run_sources(values)
  # Before JAX starts its threads: a thread keeps the heap it was born with.
  keep_freed_pages()
  # Here, not at the top: help and typos are answered without waiting for JAX.
  from dreamprvr_jax.cli import (
    conversion,
    data,
    databases,
    evaluation,
    indexing,
    inspection,
    provenance,
    rerank_table,
    reranking,
    searching,
    serving,
    training,
    workdirs,
  )
  from dreamprvr_jax.devices import processes

  processes.join(values.coordinator, values.num_processes, values.process_id)
  mode, config, workdir = values.mode, values.config, values.workdir
  if mode == 'train' and not workdir:
    workdir = str(pathlib.Path('runs') / _run_name(flags.peek(argv, 'config')))
  provenance.keep_programs(config)
  filled = lambda kind: _request(kind, values, workdir=workdir)
  if mode == 'train':
    return training.run(config, filled(training.Arguments))
  if mode == 'evaluate':
    return evaluation.run(config, filled(evaluation.Arguments))
  if mode == 'index':
    return indexing.run(config, filled(indexing.Arguments))
  if mode == 'search':
    return searching.run(config, filled(searching.Arguments))
  if mode == 'serve':
    return serving.run(config, filled(serving.Arguments))
  if mode == 'rerank-train':
    return reranking.run(config, filled(reranking.Arguments))
  if mode == 'rerank-table':
    return rerank_table.run(config, filled(rerank_table.Arguments))
  if mode == 'prepare':
    corpus = data.open_data(config, show=values.progress)
    return inspection.show_corpus(corpus)
  if mode == 'inspect':
    return inspection.run(config, filled(inspection.Arguments))
  if mode == 'import':
    with workdirs.held(workdir, 'checkpoint'):
      return conversion.run_import(config, filled(conversion.ImportArguments))
  if values.index:
    return databases.run(filled(databases.Arguments))
  with workdirs.held(values.out, 'export'):
    return conversion.run_export(config, filled(conversion.ExportArguments))


def _request(kind: type, values: FlagValues, **others: Any) -> Any:
  """Returns the dataclass `kind`, its fields from the flags of their names."""
  names = {field.name for field in dataclasses.fields(kind)}
  given = {name: values[name].value for name in names - others.keys()}
  return kind(**given, **{k: v for k, v in others.items() if k in names})


def _run_series(values: FlagValues, argv: list[str]) -> int:
  """Runs a table or a sweep; returns its exit code."""
  from dreamprvr_jax.cli import table

  request = _request(
    table.Request,
    values,
    config=flags.peek(argv, 'config'),
    overrides=split_overrides(argv)[0],
    methods=values.methods if values.mode == 'table' else '',
    sweep=values.sweep if values.mode == 'sweep' else '',
  )
  return table.run(request, lambda given: flags.parse([argv[0], *given]).config)


def _run_extraction(values: FlagValues) -> int:
  """Extracts features, without JAX; returns its exit code."""
  from dreamprvr_jax.cli import extraction

  request = _request(
    extraction.Request,
    values,
    collection=values.collection or 'videos',
    encoder=values.encoder or 'embedded',
  )
  return extraction.run(request)


def _run_sources(values: FlagValues) -> int:
  """Imports or inspects features, without JAX; returns its exit code."""
  from dreamprvr_jax.cli import importing

  request = _request(
    importing.Request, values, collection=values.collection or 'imported'
  )
  if values.mode == 'import':
    return importing.run_import(request)
  return importing.run_inspect(request)


def _run_name(config: str) -> str:
  """Returns 'tvr-hlformer' for 'configs/tvr.py:hlformer'."""
  path, _, model = config.partition(':')
  return '-'.join(filter(None, (pathlib.Path(path).stem, model)))


def _interrupt(number: int, frame: object) -> None:
  """Makes SIGTERM end a command as Ctrl-C does; once is enough."""
  del frame
  signal.signal(number, signal.SIG_IGN)
  raise KeyboardInterrupt('SIGTERM')


def _start_logging() -> None:
  """Shows our own messages; those of libraries from warnings upwards."""
  logging.basicConfig(
    level=logging.WARNING, format='%(asctime)s %(message)s', datefmt='%H:%M:%S'
  )
  for name in ('dreamprvr_jax', 'data_pipeline'):
    logging.getLogger(name).setLevel(logging.INFO)


def _show_any_name() -> None:
  """Shows what a terminal cannot, such as half a character, by its number."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')


def _fail(message: object) -> int:
  print(f'error: {message}', file=sys.stderr)
  return 2


def main(argv: list[str]) -> int:
  """Parses the command line, runs it, and returns the exit code."""
  if any(argument in ('--help', '-h', '-help') for argument in argv):
    print(help_texts.text(flags.peek(argv, 'mode')))
    return 0
  _start_logging()
  _show_any_name()
  former = signal.signal(signal.SIGTERM, _interrupt)
  try:
    return _run(flags.parse(argv), argv)
  except UserError as error:
    return _fail(error)
  except OSError as error:
    return _fail(
      f'{error.filename or "a file"}: {error.strerror or error}; check that it '
      'exists, that it may be read or written, and that the disk has room'
    )
  except KeyboardInterrupt as stop:
    kept = '; what was finished is kept, the same command continues'
    is_server = flags.peek(argv, 'mode') == 'serve'
    print('stopped' + ('' if is_server else kept), file=sys.stderr)
    return 143 if stop.args == ('SIGTERM',) else 130
  finally:
    # A second SIGTERM, while Python shuts down, would change the exit code.
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
      signal.signal(signal.SIGTERM, former)


def run() -> NoReturn:
  """Runs the command line of this process and ends it."""
  # XLA's own start-up messages say nothing to users.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  sys.exit(main(sys.argv))
