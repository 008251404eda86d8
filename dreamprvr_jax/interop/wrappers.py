"""Names of tensors without the prefixes of wrappers around a model."""

from collections.abc import Mapping
from typing import TypeVar

from dreamprvr_jax.interop.layouts import LAYOUTS
from dreamprvr_jax.interop.rules import WeightsError

T = TypeVar('T')

# Parts that wrappers add anywhere in a name: data parallelism, torch.compile,
# sharding, recomputation. No released name has one.
_WRAPPERS = {
  'module',
  '_orig_mod',
  '_fsdp_wrapped_module',
  '_checkpoint_wrapped_module',
}
# Counters beside averaged weights (torch.optim.swa_utils).
_COUNTS = {'n_averaged'}


def unwrapped(state: Mapping[str, T]) -> dict[str, T]:
  """Returns a state dict under the model's own names.

  Parts of known wrappers are taken off wherever they are. Any other part in
  front of all names is taken off, too, until the names match a program of the
  family or nothing more can be taken off.

  Raises:
    WeightsError: If two names become the same.
  """
  found: dict[str, T] = {}
  former: dict[str, str] = {}
  for name, value in state.items():
    parts = [part for part in name.split('.') if part not in _WRAPPERS]
    short = '.'.join(parts)
    if short in _COUNTS:
      continue
    if short in found:
      raise WeightsError(
        f'the state dict has {short} twice, as {former[short]} and as {name}'
      )
    found[short], former[short] = value, name
  names = found
  while names and not _known(names):
    heads = {name.partition('.')[0] for name in names}
    if len(heads) > 1 or not all('.' in name for name in names):
      return found  # No program of the family: the names stay as they are.
    names = {name.partition('.')[2]: value for name, value in names.items()}
  return names


def _known(names: Mapping[str, object]) -> bool:
  marks = tuple(layout.mark for layout in LAYOUTS.values())
  return any(name.startswith(marks) for name in names)
