"""The device mesh and moving host batches onto it."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dreamprvr_jax.errors import UserError

# In training the rows of a batch are split over both axes. In evaluation the
# queries are split over the first, the videos of the corpus over the second.
DATA_AXIS = 'data'
CORPUS_AXIS = 'corpus'


def make_mesh(num_devices: int = 0, corpus_devices: int = 1) -> Mesh:
  """Returns the mesh (data, corpus) over all processes' devices.

  Args:
    num_devices: Devices to use; 0 means all of them.
    corpus_devices: Length of the corpus axis.

  Raises:
    UserError: If there are fewer devices, if the corpus axis does not divide
      their number, or if several processes do not use all of their devices.
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
  if corpus_devices < 1 or count % corpus_devices:
    raise UserError(
      f'config.corpus_devices is {corpus_devices}, which does not divide the '
      f'{count} devices; set it to a divisor of {count}'
    )
  grid = np.asarray(devices[:count]).reshape(-1, corpus_devices)
  return Mesh(grid, (DATA_AXIS, CORPUS_AXIS))


def local_mesh(platform: str = '') -> Mesh:
  """Returns the mesh (data, corpus) over the devices of this process.

  Args:
    platform: Platform of JAX, such as 'cpu'; '' for its default.

  Raises:
    RuntimeError: If JAX has no such platform.
  """
  devices = jax.local_devices(backend=platform or None)
  return Mesh(np.asarray(devices).reshape(-1, 1), (DATA_AXIS, CORPUS_AXIS))


def compiler_options(
  mesh: Mesh | None = None, level: int = 1
) -> dict[str, int | str] | None:
  """Returns XLA options for large programs.

  On a CPU, LLVM's higher optimisation levels lengthen compilation (by a tenth
  to a quarter, depending on JAX's version) and gave no speed in measurements.
  A level in XLA_FLAGS is left alone.

  Args:
    mesh: The devices to compile for; JAX's default devices if None.
    level: LLVM's level of optimisation; 0 for a program that runs once.
  """
  option = 'xla_backend_optimization_level'
  platform = mesh.devices.flat[0].platform if mesh else jax.default_backend()
  if platform != 'cpu' or option in os.environ.get('XLA_FLAGS', ''):
    return None
  return {option: level}


def check_divisible(size: int, what: str, mesh: Mesh) -> None:
  """Raises UserError unless the mesh's devices can share `size` evenly."""
  devices = mesh.size
  if size % devices:
    raise UserError(
      f'{what} is {size}, which {devices} devices cannot share evenly; choose '
      f'a multiple of {devices}, or set config.num_devices to a divisor of it'
    )


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding that keeps a whole copy on each device."""
  return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
  """Returns the sharding that splits the leading axis over all devices."""
  return NamedSharding(mesh, PartitionSpec((DATA_AXIS, CORPUS_AXIS)))


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
