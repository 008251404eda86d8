"""How much memory the devices have left."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dreamprvr_jax.devices.gathering import gather
from dreamprvr_jax.host_memory import available_memory


def free_memory(mesh: Mesh) -> float:
  """Returns the free bytes of the fullest device of the mesh.

  The number is the same on all processes, and infinity if it is unknown. CPU
  devices share the memory of their host.
  """
  free = min(_free(device, mesh) for device in mesh.local_devices)
  if jax.process_count() > 1:
    free = np.min(gather(np.float32(free)))
  return float(free)


def _free(device: Any, mesh: Mesh) -> float:
  stats = device.memory_stats() or {}
  if 'bytes_limit' in stats:
    return stats['bytes_limit'] - stats.get('bytes_in_use', 0)
  available = available_memory() if device.platform == 'cpu' else None
  if available is None:
    return float('inf')
  return available / len(mesh.local_devices)
