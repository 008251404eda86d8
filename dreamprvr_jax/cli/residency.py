"""Chooses the pipeline that reads a run's features; splits in device memory."""

import logging
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data_pipeline.corpus import Split
from data_pipeline.resident import ResidentSource, split_bytes
from dreamprvr_jax.devices import resident
from dreamprvr_jax.devices.memory import free_memory
from dreamprvr_jax.devices.resident import ResidentSplit
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.host_memory import available_memory, size_text
from dreamprvr_jax.types import dtype_of

_log = logging.getLogger(__name__)

PIPELINES = ('auto', 'device', 'resident', 'streaming')
_GIB = 2**30


def with_pipeline(
  config: ConfigDict, splits: Sequence[Split], mesh: Mesh
) -> ConfigDict:
  """Returns the config with `data.pipeline` chosen if it is 'auto'.

  Args:
    config: The run's config.
    splits: All splits that the run reads; one may be listed twice.
    mesh: The device mesh.

  Raises:
    UserError: If the pipeline is unknown, or if it is 'device' and the splits
      do not fit.
  """
  asked = config.data.pipeline
  if asked not in PIPELINES:
    raise UserError(
      f'config.data.pipeline={asked!r} is unknown; choose one of '
      f'{", ".join(PIPELINES)}'
    )
  if asked in ('resident', 'streaming'):
    return config
  different = {split.name: split for split in splits}.values()
  dtype = np.dtype(device_dtype(config))
  need = sum(split_bytes(split, dtype.itemsize) for split in different)
  free = free_memory(mesh)
  on_device = f'{size_text(need)} in {dtype.name}'
  if asked == 'device':
    if need > free:
      raise UserError(
        f"config.data.pipeline='device' needs {on_device} on every device for "
        f'{" and ".join(split.name for split in different)}, but '
        f"{size_text(free)} are free; choose 'auto', 'resident' or "
        "'streaming', or config.data.device_dtype='bfloat16'"
      )
    chosen, why = 'device', f'{on_device}, as configured'
  else:
    share = config.data.device_share
    chosen, why = _choose(
      mesh.devices.flat[0].platform,
      need,
      share * free,
      sum(split_bytes(split) for split in different),
    )
  _log.info('features are read by the pipeline %r: %s', chosen, why)
  settled = config.copy_and_resolve_references()
  settled.data.pipeline = chosen
  return settled


def _choose(
  platform: str, need: int, most: float, on_host: int
) -> tuple[str, str]:
  """Returns a pipeline and why.

  Args:
    platform: Platform of the devices.
    need: Bytes of the features on a device.
    most: Most bytes of the features on a device.
    on_host: Bytes of the features in host memory.
  """
  reasons = []
  if platform != 'cpu':
    reason = f'{need / _GIB:.2f} GiB of at most {most / _GIB:.2f} on the device'
    if need <= most:
      return 'device', reason
    reasons.append(f'not {reason}')
  available = available_memory()
  if available is None or on_host <= available:
    found = '' if available is None else f' of {available / _GIB:.1f} free'
    reasons.append(f'{on_host / _GIB:.2f} GiB{found} in host memory')
    return 'resident', '; '.join(reasons)
  reasons.append(
    f'not {on_host / _GIB:.2f} GiB of {available / _GIB:.1f} free in host '
    'memory'
  )
  return 'streaming', '; '.join(reasons)


def device_dtype(config: ConfigDict) -> np.dtype:
  """Returns the dtype of features on the device.

  Raises:
    UserError: If the dtype is unknown.
  """
  name = config.data.device_dtype
  return np.dtype(dtype_of(config.dtype if name == 'auto' else name))


def place_split(
  split: Split, config: ConfigDict, mesh: Mesh, *, show: bool = True
) -> ResidentSplit | None:
  """Returns the split with a whole copy on every device.

  Returns None unless `data.pipeline` is 'device'. No copy stays in host memory.
  """
  if config.data.pipeline != 'device':
    return None
  dtype = device_dtype(config)
  source = ResidentSource(split, show, dtype)
  placed = resident.place(
    source.arrays(),
    mesh,
    max_frames=split.max_frames,
    max_words=split.options.max_words,
    dtype=dtype,
  )
  return jax.block_until_ready(placed)
