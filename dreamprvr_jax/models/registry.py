"""Models by name: what `config.model.name` may be."""

import dataclasses
from typing import Any

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.consolidated import MSC, GMMFormerV2, Holmes
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.models.diffusionret import DiffusionRet
from dreamprvr_jax.models.dreamprvr import DreamPRVR
from dreamprvr_jax.models.gmmformer import GMMFormer
from dreamprvr_jax.models.hlformer import HLFormer
from dreamprvr_jax.models.ms_sl import MSSL
from dreamprvr_jax.models.ral import RAL
from dreamprvr_jax.models.training_free import TFPRVR, BestFrame
from dreamprvr_jax.models.word_model import HolmesMulti
from dreamprvr_jax.types import dtype_of

MODELS: dict[str, Any] = {
  'best_frame': BestFrame,
  'diffusionret': DiffusionRet,
  'dreamprvr': DreamPRVR,
  'gmmformer': GMMFormer,
  'gmmformer_v2': GMMFormerV2,
  'hlformer': HLFormer,
  'holmes': Holmes,
  'holmes_multi': HolmesMulti,
  'ms_sl': MSSL,
  'msc': MSC,
  'ral': RAL,
  'tf_prvr': TFPRVR,
}


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
