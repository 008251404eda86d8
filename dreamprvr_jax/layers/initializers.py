"""Parameters and their initial values; docs/method.md, "Initial values"."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

# Every linear and embedding weight, whatever its fan-in: no truncation.
WEIGHT = nn.initializers.normal(stddev=0.02)


def parameter(
  module: nn.Module, name: str, init: Callable[..., Any], *args: Any
) -> Any:
  """Returns what `module.param(name, init, *args)` does, sooner.

  Flax traces the initial values of parameters that exist, to compare the
  shapes, which was half of the time that tracing a model takes. The shapes of
  weights are checked when they are loaded.
  """
  if not module.is_initializing() and module.has_variable('params', name):
    return module.get_variable('params', name)
  return module.param(name, init, *args)
