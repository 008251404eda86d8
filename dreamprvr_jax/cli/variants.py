"""The rows of a table: methods, or the values of one key of a method."""

import ast
import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

from dreamprvr_jax.errors import UserError

# A comma that is not inside a tuple or list.
_COMMA = re.compile(r',(?![^(\[]*[)\]])')
# A plus before a key, unlike the one in 1e+3.
_PLUS = re.compile(r'\+(?=[A-Za-z_][\w.]*=)')
_KEY = re.compile(r'[A-Za-z_]\w*(\.\w+)*')
_OVERRIDE = re.compile(r'--?(no)?config\.')


@dataclasses.dataclass(frozen=True)
class Variant:
  """One row of a table.

  Attributes:
    label: The user's spelling, also used for the folder of its runs.
    model: Name of the model; '' for the config's own.
    settings: Config keys that it sets -> their values.
  """

  label: str
  model: str
  settings: dict[str, Any]

  @property
  def flags(self) -> list[str]:
    """The flags that it adds to the command line."""
    return [f'--config.{key}={value}' for key, value in self.settings.items()]

  @property
  def folder(self) -> str:
    """The name of the folder of its runs."""
    return re.sub(r'[^\w.+=,()-]', '_', self.label)


def split_overrides(arguments: list[str]) -> tuple[list[str], list[str]]:
  """Returns (--config.KEY=VALUE arguments, all others) in their order."""
  overrides, others = [], []
  arguments = [*arguments]
  while arguments:
    argument = arguments.pop(0)
    if not _OVERRIDE.match(argument):
      others.append(argument)
      continue
    overrides.append(argument)
    if '=' not in argument and arguments and arguments[0][:1] != '-':
      overrides.append(arguments.pop(0))
  return overrides, others


def keys_of(overrides: Sequence[str]) -> list[str]:
  """Returns the keys that --config.KEY=VALUE arguments set."""
  return [
    _OVERRIDE.sub('', argument).partition('=')[0]
    for argument in overrides
    if _OVERRIDE.match(argument)
  ]


def kept_overrides(
  overrides: Sequence[str], is_kept: Callable[[str], bool]
) -> list[str]:
  """Returns the --config.KEY=VALUE arguments whose key is kept."""
  kept, keeps = [], True
  for argument in overrides:
    # Not a flag: the value of the one before.
    if _OVERRIDE.match(argument):
      keeps = is_kept(keys_of([argument])[0])
    if keeps:
      kept.append(argument)
  return kept


def parse_methods(text: str) -> list[Variant]:
  """Returns the variants of --methods=NAME,NAME+KEY=VALUE+KEY=VALUE,...

  Raises:
    UserError: If a method is malformed or named twice.
  """
  found = []
  for label in map(str.strip, _COMMA.split(text)):
    model, *settings = _PLUS.split(label)
    if not re.fullmatch(r'\w+', model):
      raise UserError(
        f'--methods: {label!r} is not NAME or NAME+KEY=VALUE; for example '
        '--methods=gmmformer_v2,dreamprvr+model.num_registers=0'
      )
    pairs = (setting.partition('=') for setting in settings)
    values = {key: literal(value) for key, _, value in pairs}
    found.append(Variant(label, model, values))
  return _without_repetition(found, '--methods')


def parse_sweep(text: str, model: str) -> tuple[str, list[Variant]]:
  """Returns (key, variants) of --sweep=KEY=VALUE,VALUE,...

  Args:
    text: The flag's value.
    model: Name of the model; '' for the config's own.

  Raises:
    UserError: If it is malformed or names a value twice.
  """
  key, _, values = text.partition('=')
  if not _KEY.fullmatch(key) or not values:
    raise UserError(
      f'--sweep={text} is not KEY=VALUE,VALUE; for example '
      '--sweep=model.num_registers=1,2,4,8'
    )
  found = [
    Variant(f'{key}={value}', model, {key: literal(value)})
    for value in map(str.strip, _COMMA.split(values))
  ]
  return key, _without_repetition(found, '--sweep')


def literal(text: str) -> Any:
  """Returns the value that a Python literal stands for, or else the text."""
  try:
    return ast.literal_eval(text)
  except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
    return text


def _without_repetition(variants: list[Variant], flag: str) -> list[Variant]:
  folders = [variant.folder for variant in variants]
  for variant in variants:
    if folders.count(variant.folder) > 1:
      raise UserError(f'{flag} names {variant.label!r} twice; name it once')
  return variants
