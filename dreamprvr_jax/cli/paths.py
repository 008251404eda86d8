"""`~`, the home folder, in flags and keys of the config that name a path.

A shell replaces it in `--out ~/x`, but not in `--out=~/x`.
"""

import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from dreamprvr_jax.cli.options import OPTIONS
from dreamprvr_jax.errors import UserError

# Flags whose value is one path, or several with commas.
FLAGS = tuple(o.name for o in OPTIONS.values() if o.path == '*')
# Flags whose value may contain a path after a sign -> that sign.
BEHIND = {o.name: o.path for o in OPTIONS.values() if o.path not in ('', '*')}
KEYS = (
  'compilation_cache',
  'data.root',
  'data.prepared',
  'data.moments',
  'train.start',
)


def in_arguments(argv: Sequence[str]) -> list[str]:
  """Returns a command line with `~` replaced in the flags and keys of paths,
  as --NAME=VALUE or as --NAME VALUE.

  Raises:
    UserError: If it names the home of an unknown user.
  """
  found, name = [], ''
  for argument in argv:
    bare, mark, value = argument.partition('=')
    if not argument.startswith('-'):
      # This is the value of the previous flag, if that has none yet.
      argument = _expanded(name, argument)
      name = ''
    elif mark:
      name = bare.lstrip('-')
      argument = f'{bare}={_expanded(name, value)}'
      name = ''
    else:
      name = bare.lstrip('-')
    found.append(argument)
  return found


def in_config(config: ConfigDict) -> None:
  """Replaces `~` in the keys of paths of a config.

  Raises:
    UserError: If it names the home of an unknown user.
  """
  for key in KEYS:
    *sections, last = key.split('.')
    part = config
    for section in sections:
      part = part.get(section) or ConfigDict()
    if isinstance(part.get(last), str):
      part[last] = home(part[last], f'--config.{key}')


def home(value: str, what: str) -> str:
  """Returns comma-separated paths with `~` replaced at their beginning.

  Args:
    value: One path or more.
    what: Name of the flag or key, for the error.

  Raises:
    UserError: If it names the home of an unknown user.
  """
  parts = []
  for part in value.split(','):
    bare = part.lstrip()
    if not bare.startswith('~'):
      parts.append(part)
      continue
    try:
      parts.append(str(pathlib.Path(bare).expanduser()))
    except RuntimeError:
      user = bare[1:].partition('/')[0]
      whose = f'of {user!r}' if user else 'of this user'
      raise UserError(
        f'{what}={value}: the home folder {whose} is not known; write the '
        f'whole path, or ./{bare} for what is called so'
      ) from None
  return ','.join(parts)


def _expanded(name: str, value: str) -> str:
  key = name.removeprefix('config.')
  if name in FLAGS or (key != name and key in KEYS):
    return home(value, f'--{name}')
  if name in BEHIND:
    before, mark, path = value.partition(BEHIND[name])
    if mark and (name != 'remove' or not before):
      return f'{before}{mark}{home(path, f"--{name}")}'
  return value
