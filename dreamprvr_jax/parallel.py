"""The device mesh and moving host batches onto it."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dreamprvr_jax.errors import UserError

DATA_AXIS = 'data'


def make_mesh(num_devices: int = 0) -> Mesh:
  """Returns a mesh of one data axis over all processes' devices.

  Args:
    num_devices: How many devices to use; 0 means all of them.

  Raises:
    UserError: If there are fewer devices, or if several processes would
      leave some of theirs out.
  """
  devices = jax.devices()
  count = num_devices or len(devices)
  if count > len(devices):
    raise UserError(
      f'config.num_devices asks for {count} devices, but JAX sees '
      f'{len(devices)} ({devices[0].platform}); ask for at most that many, or '
      '0 for all'
    )
  if jax.process_count() > 1 and count != len(devices):
    raise UserError(
      f'config.num_devices is {count}, but with several processes all '
      f'{len(devices)} devices take part; set it to 0'
    )
  return Mesh(np.asarray(devices[:count]), (DATA_AXIS,))


def compiler_options() -> dict[str, int | str] | None:
  """Returns XLA options for large programs on the devices in use.

  On a CPU LLVM's higher optimisation levels lengthen compilation (by a tenth
  to a quarter, depending on JAX's version) and bought no speed where it was
  tried. A level that XLA_FLAGS names is left alone.
  """
  option = 'xla_backend_optimization_level'
  if jax.default_backend() != 'cpu' or option in os.environ.get(
    'XLA_FLAGS', ''
  ):
    return None
  return {option: 1}


def check_divisible(size: int, what: str, mesh: Mesh) -> None:
  """Raises ValueError unless the mesh's data axis divides `size`."""
  devices = mesh.shape[DATA_AXIS]
  if size % devices:
    raise UserError(
      f'{what} is {size}, which {devices} devices cannot share evenly; choose '
      f'a multiple of {devices}, or set config.num_devices to a divisor of it'
    )


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding that keeps a whole copy on each device."""
  return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
  """Returns the sharding that splits the leading axis over the devices."""
  return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def shard_rows(
  arrays: Mapping[str, np.ndarray], mesh: Mesh
) -> dict[str, jax.Array]:
  """Returns global arrays split by row over the mesh.

  Args:
    arrays: This process's rows of each array, all processes the same number.
    mesh: The mesh.
  """
  sharding = by_row(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, value)
    for name, value in arrays.items()
  }


def replicate(tree: Any, mesh: Mesh) -> Any:
  """Returns the tree with a whole copy of each leaf on each device.

  All processes must pass the same values.
  """
  sharding = replicated(mesh)

  def place(leaf):
    if jax.process_count() == 1:
      return jax.device_put(leaf, sharding)
    value = np.asarray(leaf)
    return jax.make_array_from_callback(
      value.shape, sharding, lambda index: value[index]
    )

  return jax.tree.map(place, tree)
