"""What makes features of pictures and of sentences."""

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
    name: 'embedded', 'clip' or 'siglip'; behind a colon, which model of the
      hub, or the folder of one: 'clip:openai/clip-vit-large-patch14'.
    device: Where it computes, in torch's words; '': an accelerator if there is
      one.
    dtype: In which it computes: 'float32', 'bfloat16' or 'float16'.

  Raises:
    DataError: If there is no such encoder, or it cannot be loaded.
  """
  kind, _, model = name.partition(':')
  if kind not in NAMES or (kind == 'embedded' and model):
    raise DataError(
      f'the encoder {name!r} is unknown; there are embedded, '
      'clip[:MODEL] and siglip[:MODEL], where MODEL is a name of the hub or a '
      'folder'
    )
  if kind == 'embedded':
    return Embedded()
  # Torch and transformers are loaded only if they are used.
  from dreamprvr_jax.archive.encoders.hub import Hub

  return Hub.load(kind, model, device=device, dtype=dtype)


def from_identity(identity: Mapping[str, Any], *, device: str = '') -> Encoder:
  """Returns the encoder that an identity describes.

  Raises:
    DataError: If it cannot be had as it was.
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
      f'the encoder {name!r} is not the one that the features were made with: '
      f'{", ".join(changed)} differ; take the former model or version, or '
      'extract the features again'
    )
  return found
