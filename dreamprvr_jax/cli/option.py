"""What is known of a flag."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Option:
  """A flag.

  Attributes:
    name: Its name.
    default: Its value if it is not given; its type, too, unless it is None.
    metavar: What stands for the value in help; '' of a switch.
    help: Command that takes it -> what it does there.
    kind: Type of the value.
    path: '' if it is no path, '*' if it is one or several, else the sign behind
      which a path may stand in it.
  """

  name: str
  default: Any
  metavar: str
  help: Mapping[str, str]
  kind: type
  path: str = ''

  @property
  def spelled(self) -> str:
    """The flag with the sign for its value."""
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
  """Returns an option; `about` is the same for all `commands`, or by command,
  where several are separated by blanks."""
  if isinstance(about, str):
    about = dict.fromkeys(commands, about)
  by_command = {
    command: text for names, text in about.items() for command in names.split()
  }
  return Option(name, default, metavar, by_command, kind or type(default), path)


def path_option(
  name: str, metavar: str, about: str | Mapping[str, str], *commands: str
) -> Option:
  """Returns an option whose value is a path, or several with commas."""
  return option(name, '', metavar, about, *commands, path='*')
