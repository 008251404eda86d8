"""The optimiser of a training, by `config.optimizer` and `config.train`."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.traced import HEAD, OFF
from dreamprvr_jax.train.adamw import adamw, warmup_to_floor
from dreamprvr_jax.train.bert_adam import bert_adam, warmup_linear
from dreamprvr_jax.train.second_phase import held, rising_share

# Kind -> (schedule of the learning rate, optimiser).
KINDS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
  'bert_adam': (warmup_linear, bert_adam),
  'adamw': (warmup_to_floor, adamw),
}


def make_optimizer(
  config: ConfigDict, steps_per_epoch: int
) -> tuple[optax.Schedule, optax.GradientTransformation]:
  """Returns the schedule of the learning rate, and the optimiser.

  Raises:
    UserError: If a key has an impossible value.
  """
  settings = config.optimizer
  if settings.kind not in KINDS:
    raise UserError(
      f'config.optimizer.kind is {settings.kind!r}; choose from '
      f'{", ".join(KINDS)}'
    )
  schedule, optimizer = KINDS[settings.kind]
  rate = schedule(
    settings.lr, steps_per_epoch * config.train.epochs, settings.warmup
  )
  made = optimizer(
    rate, weight_decay=settings.weight_decay, max_norm=settings.max_norm
  )
  if config.train.held_epochs and not has_trace(config):
    raise UserError(
      f'config.train.held_epochs is {config.train.held_epochs}, but without '
      'TRACE there is no new part that could learn alone; set '
      "config.model.trace='query', or held_epochs to 0"
    )
  return rate, held(made, _is_new, config.train.held_epochs * steps_per_epoch)


def schedule_of(
  config: ConfigDict, steps_per_epoch: int
) -> dict[str, Callable[..., Any]]:
  """Returns the argument of `step.update` that lets TRACE's score count more
  and more; nothing if it always counts in full."""
  first, rise = config.train.fusion_start, config.train.fusion_rise
  if not has_trace(config) or not (first or rise):
    return {}
  schedule = rising_share(
    first=first, rise=rise, steps_per_epoch=steps_per_epoch
  )
  return {'constants': schedule}


def has_trace(config: ConfigDict) -> bool:
  """Returns whether the model adds TRACE's score."""
  return config.model.get('trace', OFF) != OFF


def _is_new(path: tuple[Any, ...]) -> bool:
  return jax.tree_util.keystr(path[:1], simple=True) == HEAD
