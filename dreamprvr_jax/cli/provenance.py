"""The facts that a run stores: config, versions, device."""

import importlib.metadata
import platform
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from ml_collections import ConfigDict

if TYPE_CHECKING:
  from data_pipeline.corpus import Corpus

LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


def stored_config(config: ConfigDict, corpus: 'Corpus') -> dict[str, Any]:
  """Returns the contents of `config.json`: settings, widths, versions, device,
  and the encoder of the features if it is known."""
  # It reads features; other parts of this file are used without any.
  from dreamprvr_jax.cli import encoder_identity

  identity = encoder_identity.identity_of(corpus)
  return {
    'config': plain_config(config),
    'visual_width': corpus.visual_width,
    'text_width': corpus.text_width,
    **({'encoder': identity} if identity else {}),
    **environment(),
  }


def environment() -> dict[str, Any]:
  """Returns the versions and the device that results depend on."""
  versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
  device = jax.devices()[0]
  return {
    'versions': {'python': platform.python_version(), **versions},
    'device': {
      'platform': device.platform,
      'kind': device.device_kind,
      'count': jax.device_count(),
      'processes': jax.process_count(),
    },
    'command': ' '.join(sys.argv),
  }


def plain_config(value: Any) -> Any:
  """Returns a config, or a value in one, as plain JSON values."""
  if isinstance(value, ConfigDict | Mapping):
    return {key: plain_config(value[key]) for key in value}
  if isinstance(value, tuple | list):
    return [plain_config(item) for item in value]
  return value


def finite(value: Any) -> Any:
  """Returns JSON values with NaN and infinity replaced by None."""
  if isinstance(value, dict):
    return {key: finite(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [finite(item) for item in value]
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value
