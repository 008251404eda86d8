"""The objective of a model, checked against the model."""

import dataclasses
from typing import Any

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.objectives.retrieval import RetrievalObjective
from dreamprvr_jax.objectives.terms import TERMS

# Models that are not listed are trained with the losses of the family.
OBJECTIVES: dict[str, type] = {}


def build_objective(name: str, model: Model, **weights: Any) -> Any:
  """Returns the objective that trains a model.

  Args:
    name: `config.model.name`.
    model: The model.
    **weights: `config.loss`.

  Raises:
    UserError: If a weight is unknown or missing, or the model does not provide
      what a loss reads.
  """
  made = OBJECTIVES.get(name, RetrievalObjective)
  fields = dataclasses.fields(made)
  known = {field.name for field in fields}
  required = {f.name for f in fields if f.default is dataclasses.MISSING}
  unknown = sorted(set(weights) - known)
  if unknown:
    raise UserError(
      f'config.loss has {", ".join(unknown)}, which {name} does not know; its '
      f'weights are {", ".join(sorted(known))}'
    )
  missing = sorted(required - set(weights))
  if missing:
    raise UserError(
      f'config.loss lacks {", ".join(missing)}; start from a config of '
      'configs/, which has every key'
    )
  objective = made(**weights)
  if isinstance(objective, RetrievalObjective):
    _check(objective, name, model)
  return objective


def _check(objective: RetrievalObjective, name: str, model: Model) -> None:
  provided = model.provided()
  for term in objective.used():
    missing = sorted(TERMS[term].needs - provided)
    if missing:
      raise UserError(
        f'config.loss.{term} is {getattr(objective, term)}, but {name} has no '
        f'{", ".join(missing).replace("_", " ")} to compute it from; set it '
        'to 0 or choose another model'
      )
