"""Similar videos of an index."""

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.moments import unit
from dreamprvr_jax.errors import UserError

# Rows read, or compared, at a time.
_ROWS = 4096


class Neighbours:
  """Use: `Neighbours(index.store).nearest('v1', 10)`.

  The similarity of two videos is the mean cosine of their registers, first with
  first and so on. If the index stores no registers, it is the cosine of the
  means of their clip tokens, each token at length 1. The compared vectors stay
  in memory as float16, a few KB per video.

  Attributes:
    kind: The vectors that are compared, 'registers' or 'clips'.
  """

  def __init__(self, store: Store):
    """Reads the registers or clip tokens of all videos."""
    self._store = store
    self.kind = 'registers' if store.has('registers') else 'clips'
    self._row_of = store.rows_of()
    self._rows = np.asarray(sorted(self._row_of.values()), np.int64)
    self._vectors = np.concatenate(
      [
        self._read(self._rows[start : start + _ROWS])
        for start in range(0, len(self._rows), _ROWS)
      ]
      or [np.zeros((0, 0), np.float16)]
    )

  def nearest(self, video: str, k: int = 10) -> list[tuple[str, float]]:
    """Returns (id, similarity) of the k videos most similar to a video.

    The video itself is left out. Similarities are at most 1, in falling order.

    Raises:
      UserError: If the index has no such video.
    """
    if video not in self._row_of:
      raise UserError(f'the index has no video {video!r}')
    place = int(np.searchsorted(self._rows, self._row_of[video]))
    own = self._vectors[place].astype(np.float32)
    near = np.concatenate(
      [
        self._vectors[start : start + _ROWS].astype(np.float32) @ own
        for start in range(0, len(self._rows), _ROWS)
      ]
    )
    near = np.minimum(near, 1)
    near[place] = -np.inf
    best = np.argsort(-near, kind='stable')[: min(k, len(near) - 1)]
    return [(self._store.ids[self._rows[i]], float(near[i])) for i in best]

  def _read(self, rows: np.ndarray) -> Float[np.ndarray, 'n x']:
    """Returns a vector of length 1 for each row; their dot products are the
    similarities."""
    if self.kind == 'registers':
      found = unit(self._store.take('registers', rows))
      self._store.check_finite(found, rows, 'registers')
      found /= np.sqrt(self._store.manifest.registers)
      return found.reshape(len(rows), -1).astype(np.float16)
    tokens = self._store.tokens('clip', rows)
    found = unit(unit(tokens).mean(axis=1))
    self._store.check_finite(found, rows, 'tokens')
    return found.astype(np.float16)
