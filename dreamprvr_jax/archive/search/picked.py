"""Some rows of an index in memory."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.archive.index.store import Store


class Picked:
  """Answers as `Store` does, for some of its rows.

  Each array is read once, for all of them, when it is first needed: reading
  many rows at once takes little longer than reading one.
  """

  def __init__(self, store: Store, rows: Int[np.ndarray, ' r']):
    """Reads nothing yet.

    Args:
      store: The index.
      rows: The rows, in any order, perhaps several times.
    """
    self.manifest = store.manifest
    self._store, self._rows = store, np.unique(rows)
    self._arrays: dict[str, np.ndarray] = {}
    self._tokens: dict[str, np.ndarray] = {}

  def has(self, name: str) -> bool:
    """Returns whether the index has an array."""
    return self._store.has(name)

  def take(self, name: str, rows: Int[np.ndarray, ' k']) -> np.ndarray:
    """Returns a copy of some of the rows of an array."""
    if name not in self._arrays:
      self._arrays[name] = self._store.take(name, self._rows)
    return self._arrays[name][self._places(rows)]

  def tokens(
    self, branch: str, rows: Int[np.ndarray, ' k']
  ) -> Float[np.ndarray, 'k s d']:
    """Returns the tokens of some of the rows, float32."""
    if branch not in self._tokens:
      self._tokens[branch] = self._store.tokens(branch, self._rows)
    return self._tokens[branch][self._places(rows)]

  def _places(self, rows: Any) -> Int[np.ndarray, ' k']:
    return np.searchsorted(self._rows, rows)
