"""Encoders of pictures and sentences."""

from collections.abc import Mapping
from typing import Any

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders.embedded import Embedded
from dreamprvr_jax.archive.encoders.encoder import Encoder

__all__ = ['NAMES', 'Encoder', 'build', 'from_identity']

NAMES = ('embedded', 'clip', 'siglip', 'siglip2')
# Keys of an identity that say where the weights were found, not which they are.
_PLACES = ('model', 'revision')


def build(
  name: str, *, device: str = '', dtype: str = 'float32', batch: int = 0
) -> Encoder:
  """Returns the encoder of a name.

  Args:
    name: 'embedded', 'clip', 'siglip' or 'siglip2'. After a colon, a model of
      the hub or the folder of one: 'clip:openai/clip-vit-large-patch14'; after
      an @, its revision on the hub.
    device: Platform of JAX, such as 'cpu'; '' for the best one.
    dtype: Type of its numbers: 'float32' or 'bfloat16'.
    batch: Pictures that are encoded at a time; 0 for what suits the devices.

  Raises:
    DataError: If the name is unknown, or the encoder cannot be loaded.
  """
  kind, _, model = name.partition(':')
  if kind not in NAMES or (kind == 'embedded' and model):
    raise DataError(
      f'the encoder {name!r} is unknown; choose embedded, clip[:MODEL], '
      'siglip[:MODEL] or siglip2[:MODEL], where MODEL is a name on the hub or '
      'a folder'
    )
  if kind == 'embedded':
    return Embedded()
  # It imports JAX, which decoding processes do without.
  from dreamprvr_jax.archive.encoders.image_text import ImageText

  return ImageText.load(kind, model, device=device, dtype=dtype, batch=batch)


def from_identity(
  identity: Mapping[str, Any], *, device: str = '', batch: int = 0
) -> Encoder:
  """Returns the encoder that an identity describes.

  Args:
    identity: See `Encoder`.
    device: See `build`.
    batch: See `build`.

  Raises:
    DataError: If it cannot be loaded, or differs from the identity.
  """
  name = str(identity.get('name'))
  if name in NAMES and name != 'embedded':
    from dreamprvr_jax.archive.encoders.image_text import ImageText

    found: Encoder = ImageText.load(
      name,
      identity.get('model', ''),
      revision=identity.get('revision', ''),
      device=device,
      dtype=identity.get('dtype', 'float32'),
      batch=batch,
    )
  else:
    found = build(name)
  changed = sorted(
    key
    for key in found.identity.keys() | identity.keys()
    if found.identity.get(key) != identity.get(key) and key not in _PLACES
  )
  if changed:
    raise DataError(
      f'the encoder {name!r} is not the one that made the features: '
      f'{", ".join(changed)} differ; use the former model or version, or '
      'extract the features again'
    )
  return found
