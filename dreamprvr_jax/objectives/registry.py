"""Objectives by the name of the model that they train."""

import dataclasses
from typing import Any

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.objectives.dreamprvr import DreamPRVRObjective

OBJECTIVES: dict[str, type] = {'dreamprvr': DreamPRVRObjective}


def build_objective(name: str, **weights: Any) -> Any:
  """Returns the objective of the model called `name`.

  Raises:
    UserError: If the name, or a weight, is unknown.
  """
  if name not in OBJECTIVES:
    raise UserError(
      f'there is no objective for the model {name!r}; there are '
      f'{sorted(OBJECTIVES)}'
    )
  known = {field.name for field in dataclasses.fields(OBJECTIVES[name])}
  unknown = sorted(set(weights) - known)
  if unknown:
    raise UserError(
      f'config.loss has {", ".join(unknown)}, which {name} does not know; its '
      f'weights are {", ".join(sorted(known))}'
    )
  return OBJECTIVES[name](**weights)
