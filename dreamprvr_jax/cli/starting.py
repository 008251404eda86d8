"""config.train.start: a training that starts from a checkpoint's weights."""

import logging
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.traced import HEAD, SCHEDULE
from dreamprvr_jax.trained.inference import load

_log = logging.getLogger(__name__)

# What a checkpoint may lack: its beginning, by the seed, is kept.
_NEW = (('params', HEAD), (SCHEDULE,))


def started(config: ConfigDict, initial: Any) -> Any:
  """Returns the variables that training starts from: those of the checkpoint
  `config.train.start`, with the initial values of parts that it lacks.

  Args:
    config: The run's config.
    initial: Initial values by the seed, on the host.

  Raises:
    CheckpointError: If the checkpoint is missing or cannot be read.
    UserError: If its weights are those of another model.
  """
  if not config.train.start:
    return initial
  place = config.train.start.replace('{seed}', str(config.seed))
  _, former = load(place)
  ours: dict[Any, Any] = flatten_dict(initial)
  theirs: dict[Any, Any] = flatten_dict(former)
  for path in sorted(ours.keys() | theirs.keys()):
    if path not in theirs and any(path[: len(new)] == new for new in _NEW):
      continue
    shapes = [
      np.shape(found[path]) if path in found else None
      for found in (theirs, ours)
    ]
    if shapes[0] != shapes[1]:
      raise UserError(
        f'training cannot start from {place}: {".".join(path)} has the shape '
        f'{shapes[0]} there and {shapes[1]} in the model of this config; give '
        'the keys of config.model that the checkpoint was trained with'
      )
  _log.info('starting from %s; new: %d arrays', place, len(ours) - len(theirs))
  # How much TRACE counts is a matter of this run's epochs.
  known = {
    path: np.asarray(value)
    for path, value in theirs.items()
    if path[0] != SCHEDULE
  }
  return unflatten_dict({**ours, **known})
