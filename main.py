"""The command line: flags, modes, exit codes. `python main.py --help`."""

import logging
import os
import pathlib
import signal
import sys

from absl import flags
from ml_collections import ConfigDict, config_flags

from data_pipeline.errors import DataError
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.host_memory import keep_freed_pages
from modes import help as help_texts
from modes.variants import split_overrides

_TEXT_FLAGS = (
  'workdir',
  'checkpoint',
  'official',
  'out',
  'scores',
  'labels',
  'rerank',
  'methods',
  'sweep',
  'index',
  'remove',
  'queries',
  'first_pass',
)
# Modes that start other runs of this program.
_SERIES = ('table', 'sweep')
# Modes whose config is that of the checkpoint, if none is given.
_OF_CHECKPOINTS = (
  'evaluate',
  'rerank-train',
  'rerank-table',
  'inspect',
  'export',
  'index',
  'search',
)


def _parse(argv: list[str]) -> flags.FlagValues:
  """Returns the parsed flags.

  What --config is depends on the command: one that names a checkpoint takes
  its config from there, so that `--config.data.root=DIR` works without
  --config.

  Raises:
    UserError: If a flag or key is unknown, a value is not of its kind, or the
      config cannot be had.
  """
  if _peek(argv, 'mode') in _SERIES:
    # The keys are those of the runs' models, which differ.
    _, argv = split_overrides(argv)
  values = flags.FlagValues()
  flags.DEFINE_enum(
    'mode', 'train', list(help_texts.MODES), 'what to do', flag_values=values
  )
  for name in _TEXT_FLAGS:
    flags.DEFINE_string(name, '', name, flag_values=values)
  flags.DEFINE_boolean('progress', True, 'bars', flag_values=values)
  flags.DEFINE_boolean('labelled_only', False, 'queries', flag_values=values)
  flags.DEFINE_integer('seeds', 1, 'runs of each', flag_values=values)
  flags.DEFINE_boolean('moments', False, 'metrics', flag_values=values)
  flags.DEFINE_boolean('append', False, 'videos', flag_values=values)
  flags.DEFINE_string('tokens', 'float16', 'stored', flag_values=values)
  flags.DEFINE_integer('caption', None, 'query', flag_values=values)
  flags.DEFINE_integer('k', 10, 'hits', flag_values=values)
  flags.DEFINE_integer('rescore', 4, 'candidates', flag_values=values)
  flags.DEFINE_string('coordinator', '', 'address', flag_values=values)
  flags.DEFINE_integer('num_processes', 0, 'processes', flag_values=values)
  flags.DEFINE_integer('process_id', -1, 'process', flag_values=values)
  if _peek(argv, 'config'):
    _check_config_file(_peek(argv, 'config').partition(':')[0])
    config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)
  else:
    config_flags.DEFINE_config_dict(
      'config', _implied_config(argv), flag_values=values, sys_argv=argv
    )
  try:
    rest = values(argv)
  except flags.Error as error:
    # An error inside a config file comes with its traceback: the last line
    # says what is wrong.
    line = str(error).strip().splitlines()[-1].removeprefix('ValueError: ')
    raise UserError(f'{line} (see python main.py --help)') from error
  except (AttributeError, KeyError, TypeError) as error:
    what = ' '.join(str(error.args[0] if error.args else error).split())
    raise UserError(
      f'the config has no such key: {what} (see python main.py --help)'
    ) from error
  if len(rest) > 1:
    raise UserError(f'{rest[1]!r} is not a flag; flags look like --mode=train')
  return values


def _check_config_file(path: str) -> None:
  """Raises UserError if there is no config file at `path`."""
  if not pathlib.Path(path).is_file():
    folder = pathlib.Path(__file__).parent / 'configs'
    there = sorted(
      p.name
      for p in folder.glob('*.py')
      if p.stem not in ('__init__', 'common', 'published', 'rerank')
    )
    raise UserError(
      f'--config={path}: there is no such file; configs/ has {", ".join(there)}'
    )


def _implied_config(argv: list[str]) -> ConfigDict:
  """Returns the config of a command without --config; empty if it has none."""
  from modes import base_config

  mode = _peek(argv, 'mode') or 'train'
  if mode == 'import' and _peek(argv, 'official'):
    return base_config.from_released(_peek(argv, 'official'))
  place = _peek(argv, 'checkpoint').partition(',')[0] or (
    _peek(argv, 'workdir') if mode == 'inspect' else ''
  )
  if mode in _OF_CHECKPOINTS and place:
    return base_config.from_checkpoint(place)
  if mode in ('index', 'search') and _peek(argv, 'index'):
    return base_config.from_index(_peek(argv, 'index'))
  return ConfigDict()


def _peek(argv: list[str], name: str) -> str:
  """Returns the value of a flag before flags are parsed; '' if not given."""
  for position, argument in enumerate(argv):
    bare = argument.lstrip('-')
    if argument.startswith('-') and bare == name:
      return argv[position + 1] if position + 1 < len(argv) else ''
    if argument.startswith('-') and bare.startswith(f'{name}='):
      return bare.partition('=')[2]
  return ''


def _check_flags(values: flags.FlagValues) -> None:
  """Raises UserError if the mode lacks a flag that it needs."""
  needed = {
    'train': ('config',),
    'table': ('config', 'methods', 'workdir'),
    'sweep': ('config', 'sweep', 'workdir'),
    'prepare': ('config',),
    'evaluate': ('checkpoint',),
    'rerank-train': ('checkpoint', 'workdir'),
    'rerank-table': ('checkpoint', 'workdir'),
    'import': ('official', 'workdir'),
    'export': ('checkpoint', 'out'),
    'inspect': (),
    'index': ('index',),
    'search': ('index',),
  }[values.mode]
  given = {name for name in _TEXT_FLAGS if values[name].value}
  if len(values.config or ()):
    given.add('config')
  for name in needed:
    if name not in given:
      raise UserError(
        f'--mode={values.mode} needs --{name}=...; for example: '
        f'{help_texts.MODES[values.mode][1]}'
      )
  if values.mode == 'inspect' and 'config' not in given:
    raise UserError(
      '--mode=inspect needs --config=configs/NAME.py for a data root, or '
      '--checkpoint=DIR for a workdir or checkpoint'
    )


def _run(values: flags.FlagValues, argv: list[str]) -> int:
  """Runs one command; returns its exit code."""
  _check_flags(values)
  if values.mode in _SERIES:
    return _run_series(values, argv)
  # Before JAX starts its threads: a thread keeps the heap it was born with.
  keep_freed_pages()
  # Here, not at the top: help and typos are answered without waiting for JAX.
  from dreamprvr_jax import processes
  from modes import (
    conversion,
    evaluation,
    indexing,
    inspection,
    joins,
    rerank_table,
    reranking,
    searching,
    training,
  )

  processes.join(values.coordinator, values.num_processes, values.process_id)
  mode, config, workdir = values.mode, values.config, values.workdir
  if mode == 'train' and not workdir:
    workdir = str(pathlib.Path('runs') / _run_name(_peek(argv, 'config')))
  arguments = joins.Arguments(
    workdir=workdir,
    checkpoint=values.checkpoint,
    official=values.official,
    out=values.out,
    scores=values.scores,
    labels=values.labels,
    labelled_only=values.labelled_only,
    rerank=values.rerank,
    progress=values.progress,
    moments=values.moments,
    index=values.index,
    append=values.append,
    remove=values.remove,
    tokens=values.tokens,
    queries=values.queries,
    caption=values.caption,
    k=values.k,
    first_pass=values.first_pass,
    rescore=values.rescore,
  )
  if mode == 'train':
    return training.run(config, arguments)
  if mode == 'evaluate':
    return evaluation.run(config, arguments)
  if mode == 'index':
    return indexing.run(config, arguments)
  if mode == 'search':
    return searching.run(config, arguments)
  if mode == 'rerank-train':
    return reranking.run(config, arguments)
  if mode == 'rerank-table':
    return rerank_table.run(config, arguments, values.seeds, values.methods)
  if mode == 'prepare':
    corpus = joins.open_data(config, show=arguments.progress)
    return inspection.show_corpus(corpus)
  if mode == 'inspect':
    return inspection.run(config, arguments)
  if mode == 'import':
    return conversion.run_import(config, arguments)
  return conversion.run_export(arguments)


def _run_series(values: flags.FlagValues, argv: list[str]) -> int:
  """Runs a table or a sweep; returns its exit code."""
  from modes import table

  request = table.Request(
    config=_peek(argv, 'config'),
    overrides=split_overrides(argv)[0],
    methods=values.methods if values.mode == 'table' else '',
    sweep=values.sweep if values.mode == 'sweep' else '',
    seeds=values.seeds,
    workdir=values.workdir,
    out=values.out,
    num_processes=values.num_processes,
    progress=values.progress,
  )
  return table.run(request, lambda given: _parse([argv[0], *given]).config)


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
  for name in ('dreamprvr_jax', 'data_pipeline', 'modes'):
    logging.getLogger(name).setLevel(logging.INFO)


def _fail(message: object) -> int:
  print(f'error: {message}', file=sys.stderr)
  return 2


def main(argv: list[str]) -> int:
  """Parses the command line, runs it, and returns the exit code."""
  if any(argument in ('--help', '-h', '-help') for argument in argv):
    print(help_texts.text(_peek(argv, 'mode')))
    return 0
  _start_logging()
  former = signal.signal(signal.SIGTERM, _interrupt)
  try:
    return _run(_parse(argv), argv)
  except (DataError, UserError) as error:
    return _fail(error)
  except OSError as error:
    return _fail(
      f'{error.filename or "a file"}: {error.strerror or error}; check that it '
      'exists, that it may be read or written, and that the disk has room'
    )
  except KeyboardInterrupt as stop:
    print(
      'stopped; what was finished is kept, the same command continues',
      file=sys.stderr,
    )
    return 143 if stop.args == ('SIGTERM',) else 130
  finally:
    # A second SIGTERM, while Python shuts down, would change the exit code.
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
      signal.signal(signal.SIGTERM, former)


if __name__ == '__main__':
  # XLA's own start-up messages say nothing to users.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  sys.exit(main(sys.argv))
