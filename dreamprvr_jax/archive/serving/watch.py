"""Tells when another command has changed an index."""

import os
import pathlib

from dreamprvr_jax.archive.index.manifest import MANIFEST


class Watch:
  """Looks at the manifest of an index, which each change replaces."""

  def __init__(self, directory: os.PathLike[str] | str):
    """Args:
    directory: The folder of the index.
    """
    self._path = pathlib.Path(directory) / MANIFEST
    self._seen = self._sign()

  def changed(self) -> bool:
    """Returns whether the manifest was replaced since the last call; one that
    is missing for a moment has not changed."""
    sign = self._sign()
    if sign is None or sign == self._seen:
      return False
    self._seen = sign
    return True

  def _sign(self) -> tuple[int, int, int] | None:
    try:
      facts = self._path.stat()
    except OSError:
      return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size
