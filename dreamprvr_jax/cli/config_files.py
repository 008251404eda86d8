"""The config files: beside main.py in a checkout, in the package when it is
installed from a wheel."""

import difflib
import importlib.util
import pathlib
import sys

from dreamprvr_jax.errors import UserError

_PACKAGE = pathlib.Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parent / 'configs'
FOLDER = (
  _CHECKOUT if (_CHECKOUT / 'common.py').is_file() else _PACKAGE / 'configs'
)
# What a config defines, unlike the files of keys and numbers beside it.
_CONFIG = 'def get_config('


def make_importable() -> None:
  """Makes `from configs import common` work everywhere.

  A config imports shared code by that name, in a checkout and in an installed
  package. The package installs no global package `configs`.
  """
  if 'configs' in sys.modules:
    return
  spec = importlib.util.spec_from_file_location(
    'configs',
    FOLDER / '__init__.py',
    submodule_search_locations=[str(FOLDER)],
  )
  assert spec is not None
  assert spec.loader is not None
  package = importlib.util.module_from_spec(spec)
  sys.modules['configs'] = package
  spec.loader.exec_module(package)


def names() -> list[str]:
  """Returns the names of the configs, sorted."""
  return sorted(
    path.stem
    for path in FOLDER.glob('*.py')
    if _CONFIG in path.read_text(encoding='utf-8')
  )


def found(spec: str) -> str:
  """Returns a --config with the path of its file.

  Args:
    spec: FILE or FILE:MODEL. FILE is a path, or the name of one of our configs:
      `quickstart` or `configs/quickstart.py`, in any folder.

  Raises:
    UserError: If there is no such file.
  """
  path, colon, model = spec.partition(':')
  if pathlib.Path(path).is_file():
    return spec
  name = path.removeprefix('configs/').removesuffix('.py')
  if name in names():
    return f'{FOLDER / name}.py{colon}{model}'
  near = difflib.get_close_matches(name, names(), 1)
  raise UserError(
    f'--config={path}: there is no such file, and no config of that name'
    + (f' (did you mean {near[0]}?)' if near else '')
    + f'; the configs are {", ".join(names())}'
  )


def in_arguments(argv: list[str]) -> list[str]:
  """Returns the arguments with the path of the file of --config.

  Raises:
    UserError: If there is no such file.
  """
  rest, follows = [], False
  for argument in argv:
    name, equals, value = argument.partition('=')
    if follows:
      argument = found(argument)
    elif name in ('--config', '-config') and equals:
      argument = f'--config={found(value)}'
    follows = not follows and argument in ('--config', '-config')
    rest.append(argument)
  return rest
