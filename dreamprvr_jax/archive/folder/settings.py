"""What an index of folders was made with, and from which folders."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from dreamprvr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Settings:
  """The settings of an index of folders, stored in its manifest.

  Attributes:
    roots: Absolute paths of the folders and files that it follows.
    encoder: Identity of the encoder.
    encoder_name: How the user named the encoder.
    fps: Pictures per second of video.
    part_seconds: Seconds of a part of a longer video.
    overlap_seconds: Seconds that two neighbouring parts have in common.
  """

  roots: tuple[str, ...]
  encoder: Mapping[str, Any]
  encoder_name: str
  fps: float
  part_seconds: float
  overlap_seconds: float

  def __post_init__(self):
    """Raises UserError if a number is out of its range."""
    for name in ('fps', 'part_seconds'):
      value = getattr(self, name)
      if not value > 0:
        raise UserError(f'config.archive.{name}={value} must be above 0')
    if not 0 <= self.overlap_seconds < self.part_seconds:
      raise UserError(
        f'config.archive.overlap_seconds={self.overlap_seconds} must be at '
        f'least 0 and below part_seconds, {self.part_seconds}'
      )

  @classmethod
  def of(cls, archive: Mapping[str, Any]) -> 'Settings':
    """Returns the settings that a manifest has in its `archive`.

    Raises:
      UserError: If one is missing or has another type.
    """
    try:
      return cls(
        tuple(map(str, archive['roots'])),
        dict(archive['encoder']),
        str(archive['encoder_name']),
        float(archive['fps']),
        float(archive['part_seconds']),
        float(archive['overlap_seconds']),
      )
    except (KeyError, TypeError, ValueError) as error:
      raise UserError(
        f'the manifest does not say what the index was made with ({error!r}); '
        'restore it from a backup, or index into another folder'
      ) from None

  def stored(self) -> dict[str, Any]:
    """Returns the JSON object that a manifest stores."""
    found = dataclasses.asdict(self)
    return {**found, 'roots': list(self.roots)}

  def with_roots(self, roots: Iterable[str]) -> 'Settings':
    """Returns the settings for other folders."""
    return dataclasses.replace(self, roots=tuple(dict.fromkeys(roots)))

  def names_encoder(self, name: str) -> bool:
    """Returns whether the argument of --encoder is the encoder of the index."""
    kind, _, model = name.partition(':')
    same = kind == self.encoder.get('name')
    return name == self.encoder_name or (
      same and model in ('', self.encoder.get('model'))
    )
