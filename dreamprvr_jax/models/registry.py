"""Models by name: what `config.model.name` may be.

A model is imported when it is asked for: a command uses one of them.
"""

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.types import dtype_of


class _Models(Mapping[str, Any]):
  """Name -> class, from the place of the class, 'file:class'."""

  def __init__(self, places: Mapping[str, str]):
    self._places = places

  def __getitem__(self, name: str) -> Any:
    file, _, kind = self._places[name].partition(':')
    return getattr(
      importlib.import_module(f'dreamprvr_jax.models.{file}'), kind
    )

  def __iter__(self) -> Iterator[str]:
    return iter(self._places)

  def __len__(self) -> int:
    return len(self._places)


MODELS: Mapping[str, Any] = _Models(
  {
    'best_frame': 'training_free:BestFrame',
    'diffusionret': 'diffusionret:DiffusionRet',
    'dreamprvr': 'dreamprvr:DreamPRVR',
    'gmmformer': 'gmmformer:GMMFormer',
    'gmmformer_v2': 'consolidated:GMMFormerV2',
    'hlformer': 'hlformer:HLFormer',
    'holmes': 'consolidated:Holmes',
    'holmes_multi': 'word_model:HolmesMulti',
    'ms_sl': 'ms_sl:MSSL',
    'msc': 'consolidated:MSC',
    'ral': 'ral:RAL',
    'tf_prvr': 'training_free:TFPRVR',
  }
)


def build_model(name: str, dtype: str, **sizes: Any) -> Model:
  """Returns the model called `name`.

  Args:
    name: A key of `MODELS`.
    dtype: Compute dtype, 'float32' or 'bfloat16'; parameters are float32.
    **sizes: The model's fields.

  Raises:
    UserError: If the name or a field is unknown, or a field is missing.
  """
  if name not in MODELS:
    raise UserError(
      f'config.model.name is {name!r}; the models are {sorted(MODELS)}'
    )
  fields = [
    field
    for field in dataclasses.fields(MODELS[name])
    if field.name not in ('parent', 'name', 'dtype')
  ]
  known = {field.name for field in fields}
  required = {f.name for f in fields if f.default is dataclasses.MISSING}
  unknown = sorted(set(sizes) - known)
  if unknown:
    raise UserError(
      f'config.model has {", ".join(unknown)}, which {name} does not know; '
      f'its fields are {", ".join(sorted(known))}'
    )
  missing = sorted(required - set(sizes))
  if missing:
    raise UserError(
      f'config.model lacks {", ".join(missing)}, which {name} needs; start '
      'from a config of configs/, which has every key'
    )
  values: dict[str, Any] = {
    key: tuple(value) if isinstance(value, list | tuple) else value
    for key, value in sizes.items()
  }
  return MODELS[name](**values, dtype=dtype_of(dtype))
