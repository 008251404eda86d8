"""Small values of all processes, gathered on each of them."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import ArrayLike


def gather(value: ArrayLike) -> np.ndarray:
  """Returns the values of all processes in their order, (processes, ...).

  Every process must call it at the same point, with the same shape and dtype.

  It returns once all devices of this process have the values. JAX's functions
  for this (`jax.experimental.multihost_utils`) return at the first: if the
  process ends then, programs of its other devices may wait for ever for a
  process that has ended before, and Python waits for the programs.
  """
  value = np.asarray(value)
  if jax.process_count() == 1:
    return value[None]
  devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
  shape = (jax.process_count(), -1)
  mesh = Mesh(np.asarray(devices).reshape(shape), ('process', 'device'))
  own = jax.make_array_from_single_device_arrays(
    (jax.process_count(), *value.shape),
    NamedSharding(mesh, PartitionSpec('process')),
    [jax.device_put(value[None], device) for device in mesh.local_devices],
  )
  whole = NamedSharding(mesh, PartitionSpec())
  found = jax.block_until_ready(jax.jit(_same, out_shardings=whole)(own))
  return np.asarray(found.addressable_data(0))


# A function of the module, so that a second call compiles nothing.
def _same(x: jax.Array) -> jax.Array:
  return x
