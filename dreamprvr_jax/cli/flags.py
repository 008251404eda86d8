"""Parses a command line into flags, by `commands.py` and `options.py`."""

import difflib
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from absl import flags
from absl.flags import FlagValues
from ml_collections import ConfigDict, config_flags

from dreamprvr_jax.cli import config_files, folder_config, paths
from dreamprvr_jax.cli.command import Command, Form
from dreamprvr_jax.cli.commands import COMMANDS, spelled
from dreamprvr_jax.cli.implied import implied_config, is_of_folders, peek
from dreamprvr_jax.cli.options import OPTIONS, options_of
from dreamprvr_jax.cli.variants import split_overrides
from dreamprvr_jax.errors import UserError

_DEFINE = {
  str: flags.DEFINE_string,
  bool: flags.DEFINE_boolean,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
}


def with_mode(argv: list[str]) -> list[str]:
  """Returns the arguments with --mode=COMMAND as the first.

  The command is the first argument, or that of --mode; if neither is given it
  is train.

  Raises:
    UserError: If there is no such command, or two are named.
  """
  program, *rest = argv
  named = peek(argv, 'mode')
  first = rest.pop(0) if rest and not rest[0].startswith('-') else ''
  if first and named and first != named:
    raise UserError(f'the command is {first}, but --mode={named}; give one')
  command = first or named or 'train'
  if command not in COMMANDS:
    raise UserError(
      f'{command!r} is not a command{_nearest(command, COMMANDS)}; the '
      f'commands are {", ".join(COMMANDS)}'
    )
  return [program, f'--mode={command}', *_without(rest, 'mode')]


def parse(argv: list[str]) -> FlagValues:
  """Returns the parsed flags.

  The default of --config depends on the command: one that names a checkpoint
  takes its config from there, so that `--config.data.root=DIR` works without
  --config. `~` is the home folder in all flags and keys that name a path.

  Raises:
    UserError: If a command, flag or key is unknown, a value has another type,
      or the config cannot be read.
  """
  argv = with_mode(argv)
  command = COMMANDS[peek(argv, 'mode')]
  argv = config_files.in_arguments(paths.in_arguments(argv))
  if command.forms[0].given == 'config_of':
    # The keys belong to the models of the runs, which differ.
    _, argv = split_overrides(argv)
  values = FlagValues()
  flags.DEFINE_string('mode', command.name, 'the command', flag_values=values)
  for option in options_of(command.name):
    if option.name != 'config':
      _DEFINE[option.kind](
        option.name,
        option.default,
        option.help[command.name],
        flag_values=values,
      )
  if 'config' not in _names(command):
    return _parsed(values, argv)
  config, argv = _define_config(values, command, argv)
  _parsed(values, argv)
  paths.in_config(values.config)
  if config and is_of_folders(command, argv):
    folder_config.check(values, config)
  elif config and 'official' not in command.config_from:
    from dreamprvr_jax.cli import overrides

    places = (value(values, name) for name in command.config_from)
    overrides.check(values, config, next(filter(None, places)))
  return values


def _define_config(
  values: FlagValues, command: Command, argv: list[str]
) -> tuple[ConfigDict | None, list[str]]:
  """Defines --config and its keys.

  Returns:
    The config of the checkpoint, index or released file that the command
    names, before the keys of the command line change it, or None; and the
    unused arguments.

  Raises:
    UserError: If keys are set without a config, or it cannot be read.
  """
  implied = implied_config(command, argv, _config_of)
  if peek(argv, 'config') and implied is None:
    config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)
    return None, argv
  keys = [a for a in argv if a.lstrip('-').startswith('config.')]
  if keys and implied is None:
    raise UserError(
      f'{keys[0]} sets a key of a config, but no config is given; give '
      '--config=configs/NAME.py, or the checkpoint or index whose config it is'
    )
  argv = _without(argv, 'config')
  before = implied.copy_and_resolve_references() if implied else None
  config_flags.DEFINE_config_dict(
    'config', implied or ConfigDict(), flag_values=values, sys_argv=argv
  )
  return before, argv


def _parsed(values: FlagValues, argv: list[str]) -> FlagValues:
  """Parses flags and returns them.

  Raises:
    UserError: If a flag or key is unknown, or a value has another type.
  """
  command = peek(argv, 'mode') or 'train'
  see = f'see {spelled(command)} --help'
  try:
    rest = values(argv)
  except flags.UnrecognizedFlagError as error:
    raise UserError(f'{_unknown(error.flagname, command)}; {see}') from error
  except flags.Error as error:
    # An error inside a config file comes with its traceback: the last line
    # says what is wrong.
    line = str(error).strip().splitlines()[-1].removeprefix('ValueError: ')
    raise UserError(f'{line} ({see})') from error
  except (AttributeError, KeyError, TypeError) as error:
    what = ' '.join(str(error.args[0] if error.args else error).split())
    what = _unknown_key(argv) or f'the config has no such key: {what}'
    raise UserError(f'{what}; {see}') from error
  if len(rest) > 1:
    raise UserError(
      f'{rest[1]!r} is not a flag; flags look like --workdir=DIR, and the '
      'command stands before them'
    )
  return values


def _unknown(name: str, command: str) -> str:
  """Returns the sentence about a flag that a command does not take."""
  bare = name.partition('.')[0]
  option = OPTIONS.get(bare) or OPTIONS.get(bare.removeprefix('no'))
  if option and command not in option.help:
    return (
      f'{command} does not take --{option.name}, which is a flag of '
      f'{_listed(option.help)}'
    )
  names = _names(COMMANDS[command])
  return f'unknown flag --{name}{_nearest(name, names, "--")}'


def _unknown_key(argv: list[str]) -> str:
  """Returns the sentence about the first unknown key; '' if all are known."""
  from configs import common
  from configs.keys import DESCRIPTIONS

  common.declare_all()
  sections = {key.rpartition('.')[0] for key in DESCRIPTIONS}
  for argument in argv:
    name = argument.lstrip('-').partition('=')[0]
    key = name.removeprefix('config.')
    if key != name and key not in {*DESCRIPTIONS, *sections}:
      near = _nearest(key, DESCRIPTIONS, 'config.')
      return f'the config has no key config.{key}{near}'
  return ''


def _nearest(name: str, names: Iterable[str], sign: str = '') -> str:
  near = difflib.get_close_matches(name, list(names), 1)
  return f' (did you mean {sign}{near[0]}?)' if near else ''


def _listed(names: Iterable[str]) -> str:
  *first, last = names
  return f'{", ".join(first)} and {last}' if first else last


def _names(command: Command) -> list[str]:
  return [option.name for option in options_of(command.name)]


def value(values: FlagValues, name: str) -> Any:
  """Returns the value of a flag; None if the command does not take it."""
  return values[name].value if name in values else None


def form_of(values: FlagValues) -> Form:
  """Returns the form of the command that the flags choose.

  Raises:
    UserError: If a flag that it needs is missing.
  """
  command = COMMANDS[values.mode]
  given = {name for name in _names(command) if value(values, name)}
  if not len(value(values, 'config') or ()):
    given -= {'config'}
  form = next(
    form for form in command.forms if not form.when or given & {*form.when}
  )
  example = command.examples[command.forms.index(form) % len(command.examples)]
  example = f'for example: {spelled(command.name, example)}'
  for name in form.needs:
    if name not in given:
      raise UserError(f'{command.name} needs --{name}=...; {example}')
  if form.needs_one and not given & {*form.needs_one, *command.config_from}:
    *first, last = (OPTIONS[name].spelled for name in form.needs_one)
    raise UserError(
      f'{command.name} needs {", ".join(first)} or {last}; {example}'
    )
  return form


def fill(
  kind: type, values: FlagValues, form: Form, others: Mapping[str, Any]
) -> Any:
  """Returns the dataclass of a command.

  Args:
    kind: The dataclass; its fields are filled from the flags of their names.
    values: The flags.
    form: The form of the command, which has its own defaults.
    others: Values of fields that are not flags, and of flags that depend on
      others.
  """
  given = {
    name: _value_of(form, values, name)
    for name in kind.__dataclass_fields__
    if name in values
  }
  others = {k: v for k, v in others.items() if k in kind.__dataclass_fields__}
  return kind(**{**given, **others})


def _value_of(form: Form, values: FlagValues, name: str) -> Any:
  """Returns the value of a flag, or the form's default if it is not given; an
  empty text counts as not given."""
  found = value(values, name)
  if values[name].present and found != '':
    return found
  return form.defaults.get(name, found)


def given_keys(values: FlagValues) -> tuple[str, ...]:
  """Returns the keys of the config that the command line sets."""
  return tuple(config_flags.get_override_values(values['config']))


def default_workdir(config: str) -> str:
  """Returns 'runs/tvr-hlformer' for 'configs/tvr.py:hlformer'."""
  path, _, model = config.partition(':')
  name = '-'.join(filter(None, (pathlib.Path(path).stem, model)))
  return str(pathlib.Path('runs') / name)


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


def _config_of(spec: str, model: str) -> ConfigDict:
  """Returns the config of a --config, for a model if it names none itself.

  Raises:
    UserError: If it cannot be read.
  """
  if model and ':' not in spec:
    spec = f'{spec}:{model}'
  values = FlagValues()
  arguments = ['main.py', f'--config={spec}']
  config_flags.DEFINE_config_file(
    'config', flag_values=values, sys_argv=arguments
  )
  return _parsed(values, arguments).config
