"""Encoders of pictures and sentences."""

from collections.abc import Mapping
from typing import Any

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders.embedded import Embedded
from dreamprvr_jax.archive.encoders.encoder import Encoder

__all__ = ['NAMES', 'Encoder', 'build', 'from_identity']

NAMES = ('embedded', 'clip', 'siglip')


def build(name: str, *, device: str = '', dtype: str = 'float32') -> Encoder:
  """Returns the encoder of a name.

  Args:
    name: 'embedded', 'clip' or 'siglip'. After a colon, a model of the hub or
      the folder of one: 'clip:openai/clip-vit-large-patch14'.
    device: The device, by torch's name; '' for an accelerator if there is one.
    dtype: Type of its numbers: 'float32', 'bfloat16' or 'float16'.

  Raises:
    DataError: If the name is unknown, or the encoder cannot be loaded.
  """
  kind, _, model = name.partition(':')
  if kind not in NAMES or (kind == 'embedded' and model):
    raise DataError(
      f'the encoder {name!r} is unknown; choose embedded, clip[:MODEL] or '
      'siglip[:MODEL], where MODEL is a name on the hub or a folder'
    )
  if kind == 'embedded':
    return Embedded()
  # It imports torch and transformers.
  from dreamprvr_jax.archive.encoders.hub import Hub

  return Hub.load(kind, model, device=device, dtype=dtype)


def from_identity(identity: Mapping[str, Any], *, device: str = '') -> Encoder:
  """Returns the encoder that an identity describes.

  Raises:
    DataError: If it cannot be loaded, or differs from the identity.
  """
  name = str(identity.get('name'))
  if name in ('clip', 'siglip'):
    from dreamprvr_jax.archive.encoders.hub import Hub

    found: Encoder = Hub.load(
      name,
      identity.get('model', ''),
      revision=identity.get('revision', ''),
      device=device,
      dtype=identity.get('dtype', 'float32'),
    )
  else:
    found = build(name)
  if found.identity != dict(identity):
    changed = sorted(
      key
      for key in found.identity.keys() | identity.keys()
      if found.identity.get(key) != identity.get(key)
    )
    raise DataError(
      f'the encoder {name!r} is not the one that made the features: '
      f'{", ".join(changed)} differ; use the former model or version, or '
      'extract the features again'
    )
  return found
