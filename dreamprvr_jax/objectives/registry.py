"""The objective of a model, checked against what the model provides."""

import dataclasses
from typing import Any

import flax.linen as nn

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.objectives.retrieval import RetrievalObjective
from dreamprvr_jax.objectives.terms import TERMS

# A model that is not named here is trained with the losses of the family.
OBJECTIVES: dict[str, type] = {}


def build_objective(name: str, model: nn.Module, **weights: Any) -> Any:
  """Returns the objective that trains a model.

  Args:
    name: `config.model.name`.
    model: The model.
    **weights: `config.loss`.

  Raises:
    UserError: If a weight is unknown, or the model has not what a loss reads.
  """
  made = OBJECTIVES.get(name, RetrievalObjective)
  known = {field.name for field in dataclasses.fields(made)}
  unknown = sorted(set(weights) - known)
  if unknown:
    raise UserError(
      f'config.loss has {", ".join(unknown)}, which {name} does not know; its '
      f'weights are {", ".join(sorted(known))}'
    )
  objective = made(**weights)
  if isinstance(objective, RetrievalObjective):
    _check(objective, name, model)
  return objective


def _check(objective: RetrievalObjective, name: str, model: nn.Module) -> None:
  provided = model.provided()
  for term in objective.used():
    missing = sorted(TERMS[term].needs - provided)
    if missing:
      raise UserError(
        f'config.loss.{term} is {getattr(objective, term)}, but {name} has no '
        f'{", ".join(missing).replace("_", " ")} to compute it from; set it '
        'to 0 or choose another model'
      )
