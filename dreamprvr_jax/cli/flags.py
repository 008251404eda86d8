"""The flags of the command line, and what each mode needs of them."""

import functools

from absl import flags
from ml_collections import ConfigDict, config_flags

from dreamprvr_jax.cli import config_files, paths
from dreamprvr_jax.cli import help as help_texts
from dreamprvr_jax.cli.variants import split_overrides
from dreamprvr_jax.errors import UserError

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
  'database',
  'videos',
  'captions',
  'collection',
  'engine',
  'engine_options',
  'encoder',
  'device',
  'features',
  'annotations',
)
# Modes that start other runs of this program.
SERIES = ('table', 'sweep')
# Modes whose config is that of the checkpoint, if none is given.
_OF_CHECKPOINTS = (
  'evaluate',
  'rerank-train',
  'rerank-table',
  'inspect',
  'export',
  'index',
  'search',
  'serve',
)
# Modes whose config is that of the index's checkpoint, if none is given.
_OF_INDEXES = ('index', 'search', 'serve', 'export')


def parse(argv: list[str]) -> flags.FlagValues:
  """Returns the parsed flags.

  What --config is depends on the command: one that names a checkpoint takes
  its config from there, so that `--config.data.root=DIR` works without
  --config. `~` is the home folder in all flags and keys that name a path.

  Raises:
    UserError: If a flag or key is unknown, a value is not of its kind, or the
      config cannot be had.
  """
  argv = config_files.in_arguments(paths.in_arguments(argv))
  if peek(argv, 'mode') in SERIES:
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
  flags.DEFINE_integer('sub_vectors', 0, 'stored', flag_values=values)
  flags.DEFINE_boolean('compact', False, 'rewrite', flag_values=values)
  flags.DEFINE_integer('caption', None, 'query', flag_values=values)
  flags.DEFINE_integer('k', 10, 'hits', flag_values=values)
  flags.DEFINE_integer('rescore', 4, 'candidates', flag_values=values)
  flags.DEFINE_string('host', '127.0.0.1', 'address', flag_values=values)
  flags.DEFINE_integer('port', 8000, 'port', flag_values=values)
  for name, default in (
    ('max_connections', 1000),
    ('max_connections_per_address', 256),
  ):
    flags.DEFINE_integer(name, default, 'of serve', flag_values=values)
  flags.DEFINE_float('request_seconds', 10.0, 'of serve', flag_values=values)
  flags.DEFINE_string('query', None, 'sentence', flag_values=values)
  flags.DEFINE_boolean('all_videos', False, 'videos', flag_values=values)
  flags.DEFINE_float('fps', 2.0, 'samples', flag_values=values)
  flags.DEFINE_float('max_seconds', 43_200.0, 'limit', flag_values=values)
  flags.DEFINE_integer('max_samples', 100_000, 'limit', flag_values=values)
  flags.DEFINE_integer('workers', 0, 'processes', flag_values=values)
  flags.DEFINE_integer('batch', 32, 'pictures', flag_values=values)
  flags.DEFINE_string('dtype', 'float32', 'computed', flag_values=values)
  flags.DEFINE_float('max_inflation', 64.0, 'sizes', flag_values=values)
  flags.DEFINE_string('coordinator', '', 'address', flag_values=values)
  flags.DEFINE_integer('num_processes', 0, 'processes', flag_values=values)
  flags.DEFINE_integer('process_id', -1, 'process', flag_values=values)
  config = _implied_config(argv)
  before = None
  if peek(argv, 'config') and not config:
    config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)
  else:
    keys = [a for a in argv if a.lstrip('-').startswith('config.')]
    if keys and not config:
      raise UserError(
        f'{keys[0]} sets a key of a config, and there is none; give '
        '--config=configs/NAME.py, or the checkpoint or index whose config it '
        'is'
      )
    argv = _without(argv, 'config')
    before = config.copy_and_resolve_references()
    config_flags.DEFINE_config_dict(
      'config', config, flag_values=values, sys_argv=argv
    )
  rest = _parsed(values, argv)
  if len(rest) > 1:
    raise UserError(f'{rest[1]!r} is not a flag; flags look like --mode=train')
  paths.in_config(values.config)
  place = values.checkpoint or values.index or values.workdir
  if before and values.mode in _OF_CHECKPOINTS:
    from dreamprvr_jax.cli import overrides

    overrides.check(values, before, place)
  return values


def _parsed(values: flags.FlagValues, argv: list[str]) -> list[str]:
  """Parses flags and returns what is none.

  Raises:
    UserError: If a flag or key is unknown, or a value is not of its kind.
  """
  try:
    return values(argv)
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


def has_sources(values: flags.FlagValues) -> bool:
  """Returns whether a command is about other people's features."""
  return bool(values.features or values.queries or values.annotations)


def check(values: flags.FlagValues) -> None:
  """Raises UserError if the mode lacks a flag that it needs."""
  needed = {
    'train': ('config',),
    'table': ('config', 'methods', 'workdir'),
    'sweep': ('config', 'sweep', 'workdir'),
    'prepare': ('config',),
    'evaluate': ('checkpoint',),
    'rerank-train': ('checkpoint', 'workdir'),
    'rerank-table': ('checkpoint', 'workdir'),
    'import': ('features', 'out')
    if has_sources(values)
    else ('official', 'workdir'),
    'export': ('index', 'out') if values.index else ('checkpoint', 'out'),
    'inspect': (),
    'index': ('index',),
    'search': ('index',),
    'serve': ('index',),
    'extract': ('videos', 'out'),
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
  if (
    values.mode == 'inspect'
    and 'config' not in given
    and not has_sources(values)
  ):
    raise UserError(
      '--mode=inspect needs --config=configs/NAME.py for a data root, '
      "--features=PATH for other people's features, or --checkpoint=DIR for a "
      'workdir or checkpoint'
    )


def peek(argv: list[str], name: str) -> str:
  """Returns the value of a flag before flags are parsed; '' if not given."""
  for position, argument in enumerate(argv):
    bare = argument.lstrip('-')
    if argument.startswith('-') and bare == name:
      return argv[position + 1] if position + 1 < len(argv) else ''
    if argument.startswith('-') and bare.startswith(f'{name}='):
      return bare.partition('=')[2]
  return ''


def _without(argv: list[str], name: str) -> list[str]:
  """Returns the arguments without a flag and its value."""
  rest, skip = [], False
  for argument in argv:
    bare = argument.lstrip('-')
    is_flag = argument.startswith('-')
    if not skip and not (is_flag and bare.partition('=')[0] == name):
      rest.append(argument)
    skip = is_flag and bare == name
  return rest


def _implied_config(argv: list[str]) -> ConfigDict:
  """Returns the config of a command about a checkpoint, an index or a released
  file, to which --config may add; empty for another command."""
  spec = peek(argv, 'config')
  mode, index = peek(argv, 'mode') or 'train', peek(argv, 'index')
  released = peek(argv, 'official') if mode == 'import' else ''
  place = peek(argv, 'checkpoint').partition(',')[0] or (
    peek(argv, 'workdir') if mode == 'inspect' else ''
  )
  of_checkpoint = mode in _OF_CHECKPOINTS and place
  of_index = mode in _OF_INDEXES and index
  if not (released or of_checkpoint or of_index):
    return ConfigDict()
  # Here: it brings JAX, which help, typos and some modes do without.
  from dreamprvr_jax.cli import base_config

  given = functools.partial(_config_of, spec) if spec else None
  if released:
    named = peek(argv, 'collection') or peek(argv, 'config.data.collection')
    return base_config.from_released(released, named, given)
  if of_checkpoint:
    return base_config.from_checkpoint(place, given)
  return base_config.from_index(index, given)


def _config_of(spec: str, model: str) -> ConfigDict:
  """Returns the config of a --config, for a model if it names none itself.

  Raises:
    UserError: If it cannot be had.
  """
  if model and ':' not in spec:
    spec = f'{spec}:{model}'
  values = flags.FlagValues()
  arguments = ['main.py', f'--config={spec}']
  config_flags.DEFINE_config_file(
    'config', flag_values=values, sys_argv=arguments
  )
  _parsed(values, arguments)
  return values.config
