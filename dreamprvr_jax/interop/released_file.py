"""A released checkpoint: its weights, and its other plain values.

Programs store many things beside the weights. None of them stops an import:
plain values are kept, others are left out.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamprvr_jax.interop.inert_values import Opaque
from dreamprvr_jax.interop.rules import WeightsError
from dreamprvr_jax.interop.torch_archive import read_archive
from dreamprvr_jax.interop.wrappers import unwrapped

# Keys of the weights and of the settings, likeliest first.
_STATES = (
  'state_dict',
  'model',
  'model_state_dict',
  'model_state',
  'net',
  'weights',
)
_CONFIGS = (
  'config',
  'model_cfg',
  'cfg',
  'opt',
  'args',
  'hparams',
  'hyper_parameters',
)
_FACTS = ('epoch', 'model_val')
# The greatest depth and number of values of recorded facts.
_MAX_DEPTH, _MAX_VALUES = 6, 1000


@dataclasses.dataclass(frozen=True)
class Released:
  """The used parts of a released checkpoint.

  Attributes:
    path: The file.
    config: Its settings, values of any kind; empty if it has none.
    state: Its tensors by the model's own names.
    facts: `epoch` and `recorded_metrics`, if it has them, ready for JSON.
  """

  path: str
  config: dict[str, Any]
  state: dict[str, np.ndarray]
  facts: dict[str, Any]


def read_released(path: str) -> Released:
  """Returns the used parts of a released checkpoint.

  Raises:
    ArchiveError: If the file cannot be read.
    WeightsError: If it has no weights, or some cannot be read.
  """
  archive = read_archive(path, lenient=True, only=_wanted)
  entries = _mapping(archive)
  if entries is None:
    raise WeightsError(
      f'{path} holds {_described(archive)}; a released checkpoint is a dict '
      'with config, epoch, model_val, state_dict and optimizer'
    )
  config: dict[str, Any] = {}
  for name in reversed(_CONFIGS):
    values = _mapping(entries.get(name)) or {}
    config |= {k: v for k, v in values.items() if isinstance(k, str)}
  facts = {
    'epoch': _number(entries.get('epoch')),
    'recorded_metrics': plain(entries.get('model_val')),
  }
  if not isinstance(facts['recorded_metrics'], list | dict):
    del facts['recorded_metrics']
  if facts['epoch'] is None:
    del facts['epoch']
  return Released(path, config, _state(path, entries), facts)


def plain(value: Any) -> Any:
  """Returns numbers, texts, lists and dicts as JSON values.

  Returns None for a value that contains anything else, or too much.
  """
  left = [_MAX_VALUES]
  try:
    return _plain(value, _MAX_DEPTH, left)
  except _NotPlainError:
    return None


class _NotPlainError(Exception):
  """A value that is not a JSON value."""


def _plain(value: Any, depth: int, left: list[int]) -> Any:
  left[0] -= 1
  if left[0] < 0 or depth < 0:
    raise _NotPlainError
  if value is None or isinstance(value, bool):
    return value
  if isinstance(value, str):
    return value[:200]
  if isinstance(value, int | float):
    if _number(value) is None:
      return None
    return value
  if isinstance(value, np.ndarray) and value.size <= _MAX_VALUES:
    return _plain(value.tolist(), depth, left)
  if isinstance(value, list | tuple):
    return [_plain(item, depth - 1, left) for item in value]
  if isinstance(value, dict):
    return {
      str(key)[:200]: _plain(item, depth - 1, left)
      for key, item in value.items()
      if isinstance(key, str | int | float)
    }
  raise _NotPlainError


def _number(value: Any) -> int | float | None:
  """Returns a finite number of moderate size; None for everything else."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return None
  if isinstance(value, int):
    return value if abs(value) < 2**63 else None
  return value if math.isfinite(value) else None


def _wanted(keys: list[Any]) -> set[Any]:
  """Returns the keys to read: all of a bare state dict."""
  if not any(name in keys for name in _STATES):
    return set(keys)
  return {*_STATES, *_CONFIGS, *_FACTS}


def _mapping(value: Any) -> dict[Any, Any] | None:
  """Returns the pairs of a dict, or of an object of any class.

  An object's pairs are its items if it is a subclass of dict, or else its
  attributes.
  """
  if isinstance(value, dict):
    return value
  if not isinstance(value, Opaque):
    return None
  if value.items:
    return value.items
  state = value.state
  if isinstance(state, tuple) and len(state) == 2:
    # Attributes, and those of __slots__.
    parts = [part for part in state if isinstance(part, dict)]
    state = {key: item for part in parts for key, item in part.items()}
  if isinstance(state, dict):
    return state
  return value.kwargs or None


def _state(path: str, entries: Mapping[Any, Any]) -> dict[str, np.ndarray]:
  """Returns the tensors of a checkpoint."""
  named = [name for name in _STATES if name in entries]
  found: Any = entries
  if named:
    candidates = [_mapping(entries[name]) for name in named]
    holding = [c for c in candidates if c and _holds_tensors(c)]
    if not holding:
      value = entries[named[0]]
      if isinstance(value, Opaque) and value.problem:
        raise WeightsError(f'{named[0]} of {path}: {value.problem}')
      if _mapping(value) is None:
        raise WeightsError(
          f'{named[0]} of {path} is a {_described(value)}, not a dict'
        )
    found = holding[0] if holding else candidates[0]
  elif not _holds_tensors(entries):
    raise WeightsError(
      f'{path} holds a dict of {_listed(entries)}; a released checkpoint is a '
      'dict with config, epoch, model_val, state_dict and optimizer'
    )
  for name, value in found.items():
    if isinstance(value, Opaque) and value.problem:
      raise WeightsError(f'{path}: {name} in state_dict: {value.problem}')
  odd = {
    name: value
    for name, value in found.items()
    if not isinstance(value, np.ndarray) or not isinstance(name, str)
  }
  if odd:
    raise WeightsError(f'{path}: {_listed(odd)} in state_dict are not tensors')
  return unwrapped(found)


def _holds_tensors(values: Mapping[Any, Any]) -> bool:
  return any(isinstance(value, np.ndarray) for value in values.values())


def _listed(values: Mapping[Any, Any]) -> str:
  names = [
    name if isinstance(name, str) else type(name).__name__ for name in values
  ]
  return ', '.join(name[:60] for name in names[:8]) or 'nothing'


def _described(value: Any) -> str:
  if isinstance(value, Opaque):
    return '.'.join(filter(None, (value.module, value.name))) or 'object'
  return type(value).__name__
