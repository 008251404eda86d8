from typing import Any

from absl.flags import Flag, FlagHolder, FlagValues
from ml_collections import ConfigDict

def DEFINE_config_file(
  name: str, *, flag_values: FlagValues, sys_argv: list[str] | None = ...
) -> FlagHolder[ConfigDict]: ...
def DEFINE_config_dict(
  name: str,
  config: ConfigDict,
  *,
  flag_values: FlagValues,
  sys_argv: list[str] | None = ...,
) -> FlagHolder[ConfigDict]: ...
def get_override_values(config_flag: Flag) -> dict[str, Any]: ...
