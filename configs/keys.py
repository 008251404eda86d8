"""How a config declares a key: its default and what it means, in one line."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

# What each key means, by its dotted name; filled when a config is made.
DESCRIPTIONS: dict[str, str] = {}


@dataclasses.dataclass(frozen=True)
class Key:
  """The default of a key, and what the key means."""

  default: Any
  meaning: str


def key(default: Any, meaning: str) -> Any:
  """Returns the declaration of a key, for `config.data.root = key(...)`."""
  return Key(default, meaning)


class Keys:
  """A section of a config while its keys are declared.

  `section.name = key(default, meaning)` adds a key, `section.name = value`
  changes one, `section.name = Keys(...)` adds a section. The values are in
  `config`, the meanings in `DESCRIPTIONS`.
  """

  config: ConfigDict

  def __init__(self, name: str = ''):
    """Starts an empty section with the name of the section, '' for the top."""
    vars(self).update(name=name, config=ConfigDict(), sections={})

  def __getattr__(self, name: str) -> Any:
    """Returns a section, or the value of a key."""
    sections = vars(self).get('sections', {})
    return sections[name] if name in sections else self.config[name]

  def __setattr__(self, name: str, value: Any) -> None:
    """Adds a key or a section, or changes a key.

    Raises:
      AttributeError: If a value is given to a key that is not declared.
    """
    if isinstance(value, Keys):
      vars(self)['sections'][name] = value
      self.config[name] = value.config
      return
    if isinstance(value, Key):
      prefix = vars(self)['name']
      DESCRIPTIONS[f'{prefix}.{name}' if prefix else name] = value.meaning
      value = value.default
    elif name not in self.config:
      raise AttributeError(
        f'{name} is not declared; write `{name} = key(default, meaning)` first'
      )
    self.config[name] = value
