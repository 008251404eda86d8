"""Names of tensors without what wrappers of a model put before them."""

from collections.abc import Mapping
from typing import TypeVar

from dreamprvr_jax.interop.layouts import LAYOUTS
from dreamprvr_jax.interop.rules import WeightsError

T = TypeVar('T')

# Parts of names that wrappers add, anywhere in a name: data parallelism,
# torch.compile, sharding, recomputation. No released name has one.
_WRAPPERS = {
  'module',
  '_orig_mod',
  '_fsdp_wrapped_module',
  '_checkpoint_wrapped_module',
}
# What averages of weights (torch.optim.swa_utils) count beside them.
_COUNTS = {'n_averaged'}


def unwrapped(state: Mapping[str, T]) -> dict[str, T]:
  """Returns a state dict under the names that the model itself gives.

  Known wrappers' parts are taken off wherever they are; any other part that
  stands before all names is taken off until they are those of a program of the
  family, or there is none left.

  Raises:
    WeightsError: If two names are then the same.
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
        f'the state dict holds {short} twice, as {former[short]} and as {name}'
      )
    found[short], former[short] = value, name
  names = found
  while names and not _known(names):
    heads = {name.partition('.')[0] for name in names}
    if len(heads) > 1 or not all('.' in name for name in names):
      return found  # Of no program of the family: as they are.
    names = {name.partition('.')[2]: value for name, value in names.items()}
  return names


def _known(names: Mapping[str, object]) -> bool:
  marks = tuple(layout.mark for layout in LAYOUTS.values())
  return any(name.startswith(marks) for name in names)
