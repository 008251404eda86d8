"""Durable state: a run's checkpoints, and weights on their own.

Layout of a workdir:
  config.json               the run's config, with the data's widths
  checkpoints/latest/STEP   training state and loop position, for resuming
  checkpoints/best/STEP     weights of the best epoch by SumR
  checkpoints/damaged/STEP  states that could not be resumed from
Weights on their own (import, export) are config.json and `weights/`. Beside
the arrays is their seal, `seal.json`: sizes and checksums of the files as they
were written. Everything is written to a temporary place and renamed.

What reads or writes arrays is imported when it is first used: orbax takes a
while to import, and many commands only read a config.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dreamprvr_jax.checkpoints.files import (
  BEST,
  CONFIG_FILE,
  LATEST,
  WEIGHTS,
  CheckpointError,
  read_config,
)

if TYPE_CHECKING:
  from dreamprvr_jax.checkpoints.series import RunCheckpoints
  from dreamprvr_jax.checkpoints.weights import (
    best_info,
    load_weights,
    locate_weights,
    save_weights,
  )

__all__ = [
  'BEST',
  'CONFIG_FILE',
  'LATEST',
  'WEIGHTS',
  'CheckpointError',
  'RunCheckpoints',
  'best_info',
  'load_weights',
  'locate_weights',
  'read_config',
  'save_weights',
]

_LATER = {
  'RunCheckpoints': 'series',
  'best_info': 'weights',
  'load_weights': 'weights',
  'locate_weights': 'weights',
  'save_weights': 'weights',
}


def __getattr__(name: str) -> Any:
  if name not in _LATER:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_LATER[name]}'), name)
