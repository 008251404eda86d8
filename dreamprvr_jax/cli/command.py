"""The description of a command, and of each way to use it."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Form:
  """One way to use a command; most commands have one.

  Attributes:
    run: 'module:function' below `dreamprvr_jax.cli`, imported when it is run.
    arguments: Name of the module's dataclass of flags. Its fields are filled
      from the flags of the same names.
    given: Further argument of `run`: 'config', 'config_of' (a function from
      flags to a config) or ''.
    when: Flags that choose this form; if empty, it is used if no other is.
    needs: Required flags.
    needs_one: Flags of which one is required.
    defaults: Defaults of this form that differ from those of the flags.
    devices: Whether it computes with JAX, together with other processes if
      there are any.
  """

  run: str
  arguments: str = 'Arguments'
  given: str = 'config'
  when: tuple[str, ...] = ()
  needs: tuple[str, ...] = ()
  needs_one: tuple[str, ...] = ()
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  devices: bool = True


@dataclasses.dataclass(frozen=True)
class Command:
  """A command.

  Attributes:
    name: Its name.
    about: Its description, in sentences; lists show only the first one.
    examples: Its flags in use.
    forms: How it is used, see `Form`.
    config_from: Flags that name a checkpoint, an index or a released file,
      tried in this order, whose config is used; --config overrides it.
    keys: Keys and sections of the config that it uses.
  """

  name: str
  about: str
  examples: tuple[str, ...]
  forms: tuple[Form, ...]
  config_from: tuple[str, ...] = ()
  keys: tuple[str, ...] = ()
