"""Weights of released programs <-> our variables.

Each program has one table of rules (`layouts`), read in both directions.
"""

from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np

from dreamprvr_jax.interop.layouts import GENERATORS, LAYOUTS, Layout
from dreamprvr_jax.interop.rules import (
  Path,
  WeightsError,
  to_ours,
  to_theirs,
)
from dreamprvr_jax.interop.wrappers import unwrapped


def model_of_state(state: Mapping[str, Any]) -> str:
  """Returns the name of the model that a state dict belongs to.

  Raises:
    WeightsError: If it belongs to no model of the family.
  """
  names = unwrapped(state)
  for model, layout in LAYOUTS.items():
    if any(name.startswith(layout.mark) for name in names):
      return model
  raise WeightsError(
    f'the state dict belongs to none of {", ".join(LAYOUTS)}: it has '
    f'{_listed(sorted(names))}'
  )


def counts_of_state(layout: Layout, state: Mapping[str, Any]) -> dict[str, int]:
  """Returns how many of each numbered part a state dict names."""
  names = unwrapped(state)
  return {
    prefix: len(
      {n[len(prefix) :].split('.')[0] for n in names if n.startswith(prefix)}
    )
    for prefix in layout.counted
  }


def _counts_of_ours(layout: Layout, ours: Mapping[Path, Any]) -> dict[str, int]:
  counts = {}
  for prefix, path in layout.counted.items():
    if path in ours:
      counts[prefix] = len(ours[path])
    else:
      numbered = lambda i, path=path: tuple(part.format(i) for part in path)
      count = 0
      while numbered(count) in ours and count < 1000:
        count += 1
      counts[prefix] = count
  return counts


def from_official(
  state: Mapping[str, np.ndarray],
  template: Mapping[str, Any],
  model: str = 'dreamprvr',
) -> dict[str, Any]:
  """Returns our variables, filled from a released state dict.

  Args:
    state: Tensors by their released names; prefixes of wrappers (several GPUs,
      torch.compile) are taken off.
    template: Our variables ({'params': ..., 'constants': ...}) or their
      shapes.
    model: Name of the model, or of one of DiffusionRet's generators, in which
      case its part of the state dict is taken.

  Returns:
    Nested dicts like `template`, float32 numpy arrays.

  Raises:
    WeightsError: If a tensor is missing, left over or of another shape; each
      tensor is used exactly once.
  """
  layout = _layout(model)
  state = {
    name: value
    for name, value in unwrapped(state).items()
    if not any(part in name for part in layout.ignored)
  }
  if model in GENERATORS:
    state = {n: v for n, v in state.items() if n.startswith(layout.mark)}
  wanted: Any = flax.traverse_util.flatten_dict(template)
  table = layout.rules(counts_of_state(layout, state))
  missing = [r.official for r in table if r.official not in state]
  extra = sorted(set(state) - {r.official for r in table})
  if missing or extra:
    raise WeightsError(
      f'the state dict is not that of a released {model} model: '
      f'missing {_listed(missing)}; not known {_listed(extra)}'
    )
  filled: dict[Path, np.ndarray] = {}
  for rule in table:
    if rule.path not in wanted:
      raise WeightsError(
        f'{rule.official} has no place in the configured model (looked for '
        f'{"/".join(rule.path)}); check config.model'
      )
    shape = tuple(wanted[rule.path].shape)
    target = filled.setdefault(rule.path, np.empty(shape, np.float32))
    if rule.block is None:
      target[...] = to_ours(rule, state[rule.official], shape)
    else:
      target[rule.block] = to_ours(rule, state[rule.official], shape[1:])
  unfilled = sorted('/'.join(path) for path in set(wanted) - set(filled))
  if unfilled:
    raise WeightsError(
      f'the state dict leaves {_listed(unfilled)} of the model unfilled'
    )
  return flax.traverse_util.unflatten_dict(filled)


def to_official(
  variables: Mapping[str, Any], model: str = 'dreamprvr'
) -> dict[str, np.ndarray]:
  """Returns our variables (or gradients) under the released names.

  Collections that `variables` lacks are left out.
  """
  ours: Any = flax.traverse_util.flatten_dict(variables)
  layout = _layout(model)
  out = {}
  for rule in layout.rules(_counts_of_ours(layout, ours)):
    if rule.path[0] in variables:
      value = np.asarray(ours[rule.path])
      value = value if rule.block is None else value[rule.block]
      out[rule.official] = to_theirs(rule, value)
  return out


def _layout(model: str) -> Layout:
  return GENERATORS[model] if model in GENERATORS else LAYOUTS[model]


def _listed(names: list[str], limit: int = 8) -> str:
  if not names:
    return 'nothing'
  more = f' and {len(names) - limit} more' if len(names) > limit else ''
  return ', '.join(names[:limit]) + more
