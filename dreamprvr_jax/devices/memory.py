"""How much memory the devices have left."""

import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

_MEMINFO = pathlib.Path('/proc/meminfo')


def free_memory(mesh: Mesh) -> float:
  """Returns the bytes that are free on the fullest device of the mesh, the
  same number on all processes; infinity if nobody knows.

  CPU devices share the memory of their host.
  """
  free = min(_free(device, mesh) for device in mesh.local_devices)
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    free = np.min(multihost_utils.process_allgather(np.float32(free)))
  return float(free)


def _free(device: Any, mesh: Mesh) -> float:
  stats = device.memory_stats() or {}
  if 'bytes_limit' in stats:
    return stats['bytes_limit'] - stats.get('bytes_in_use', 0)
  if device.platform == 'cpu' and _MEMINFO.exists():
    for line in _MEMINFO.read_text(encoding='utf-8').splitlines():
      name, _, value = line.partition(':')
      if name == 'MemAvailable':
        return int(value.split()[0]) * 1024 / len(mesh.local_devices)
  return float('inf')
