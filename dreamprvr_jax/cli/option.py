"""The description of a flag."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Option:
  """A flag.

  Attributes:
    name: Its name.
    default: Its default, which also gives the type unless it is None.
    metavar: Placeholder of the value in help; '' for a switch.
    help: Command that takes it -> its meaning there.
    kind: Type of the value.
    path: '' if it is not a path, '*' if it is one or several paths, else the
      sign after which the value may contain a path.
  """

  name: str
  default: Any
  metavar: str
  help: Mapping[str, str]
  kind: type
  path: str = ''

  @property
  def spelled(self) -> str:
    """The flag with its placeholder."""
    if self.kind is not bool:
      return f'--{self.name}={self.metavar}'
    return f'--no{self.name}' if self.default else f'--{self.name}'


def option(
  name: str,
  default: Any,
  metavar: str,
  about: str | Mapping[str, str],
  *commands: str,
  path: str = '',
  kind: type | None = None,
) -> Option:
  """Returns an option. `about` is one text for all `commands`, or a text per
  command, where blanks separate several commands."""
  if isinstance(about, str):
    about = dict.fromkeys(commands, about)
  by_command = {
    command: text for names, text in about.items() for command in names.split()
  }
  return Option(name, default, metavar, by_command, kind or type(default), path)


def path_option(
  name: str, metavar: str, about: str | Mapping[str, str], *commands: str
) -> Option:
  """Returns an option whose value is one path, or several with commas."""
  return option(name, '', metavar, about, *commands, path='*')
