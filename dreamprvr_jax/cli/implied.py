"""The config that a command has from the checkpoint or index that it names."""

import functools
from collections.abc import Callable

from ml_collections import ConfigDict

from dreamprvr_jax.cli import folder_config
from dreamprvr_jax.cli.command import Command
from dreamprvr_jax.errors import UserError


def peek(argv: list[str], name: str) -> str:
  """Returns the value of a flag before flags are parsed; '' if not given."""
  for position, argument in enumerate(argv):
    bare = argument.lstrip('-')
    if argument.startswith('-') and bare == name:
      return argv[position + 1] if position + 1 < len(argv) else ''
    if argument.startswith('-') and bare.startswith(f'{name}='):
      return bare.partition('=')[2]
  return ''


def is_set(argv: list[str], name: str) -> bool:
  """Returns whether a flag that is on or off is on, before flags are parsed."""
  found = False
  for argument in argv:
    bare, _, given = argument.lstrip('-').partition('=')
    if argument.startswith('-') and bare in (name, f'no{name}'):
      found = bare == name and given.lower() in ('', 'true', 't', '1')
  return found


def implied_config(
  command: Command, argv: list[str], config_of: Callable[[str, str], ConfigDict]
) -> ConfigDict | None:
  """Returns the config of a command about a checkpoint, an index or a released
  file, to which --config may add; None for another command.

  Args:
    command: The command.
    argv: The command line.
    config_of: Returns the config of a --config, for a model if it names none.

  Raises:
    UserError: If one of them cannot be read, or the command would make an index
      again that it only names.
  """
  spec = peek(argv, 'config')
  given = functools.partial(config_of, spec) if spec else None
  if is_of_folders(command, argv):
    name = peek(argv, 'retriever') or peek(argv, 'config.archive.retriever')
    return folder_config.of_folders(
      peek(argv, 'index'), name, peek(argv, 'encoder'), given
    )
  named = [name for name in command.config_from if peek(argv, name)]
  if not named or (named == ['index'] and _is_new_index(command, argv)):
    return None
  # Imported here because it imports JAX, which help, typos and some commands
  # do not need.
  from dreamprvr_jax.cli import base_config

  place = peek(argv, named[0])
  if named[0] == 'official':
    collection = peek(argv, 'collection')
    return base_config.from_released(
      place, collection or peek(argv, 'config.data.collection'), given
    )
  only_named = command.name == 'index' and named == ['index']
  only_named = only_named and not (_is_changed(argv) or peek(argv, 'recall'))
  if only_named and folder_config.manifest_of(place) is not None:
    raise UserError(
      f'{place} is an index of features, which has no folder to follow; to '
      'change it, give --append, --remove=ID,ID, --compact or --recall; to '
      'make it again, --checkpoint=DIR or --config=configs/NAME.py:tf_prvr'
    )
  if named[0] == 'index':
    config = base_config.from_index(place, given)
  else:
    config = base_config.from_checkpoint(place.partition(',')[0], given)
  if command.name == 'index' and not spec and is_set(argv, 'append'):
    from dreamprvr_jax.cli import origins

    is_named = bool(peek(argv, 'config.data.root'))
    return origins.with_origin(config, peek(argv, 'index'), is_named=is_named)
  return config


def is_of_folders(command: Command, argv: list[str]) -> bool:
  """Returns whether a command is about an index that follows folders."""
  if command.name != 'index':
    return False
  if peek(argv, 'videos'):
    return True
  manifest = folder_config.manifest_of(peek(argv, 'index'))
  return folder_config.follows_folders(manifest)


def _is_new_index(command: Command, argv: list[str]) -> bool:
  """Returns whether an index is made by the model of --config alone."""
  is_given = bool(peek(argv, 'config'))
  return command.name == 'index' and is_given and not _is_changed(argv)


def _is_changed(argv: list[str]) -> bool:
  """Returns whether a command line says how an index is to change."""
  return (
    is_set(argv, 'append')
    or is_set(argv, 'compact')
    or bool(peek(argv, 'remove'))
  )
