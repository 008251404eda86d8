"""Similar videos of an index."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.timelines import unit
from dreamprvr_jax.errors import UserError

# Rows read, or videos compared, at a time.
_ROWS = 4096


class Neighbours:
  """Use: `Neighbours(index.store).nearest('v1', 10)`.

  The similarity of two videos is the mean cosine of their registers, first with
  first and so on. If the index stores no registers, it is the cosine of the
  means of their clip tokens, each token at length 1. Where a video has several
  rows, it is compared by the sums over them. The compared vectors stay in
  memory as float16, a few KB per video.

  Attributes:
    kind: The vectors that are compared, 'registers' or 'clips'.
  """

  def __init__(self, store: Store):
    """Reads the registers or clip tokens of all videos."""
    self._store = store
    self.kind = 'registers' if store.has('registers') else 'clips'
    rows_of = store.rows_of()
    self._ids = list(rows_of)
    self._place = {name: place for place, name in enumerate(self._ids)}
    vectors = [
      self._read(rows) for rows in _whole_videos(list(rows_of.values()))
    ]
    self._vectors = np.concatenate(vectors or [np.zeros((0, 0), np.float16)])

  def nearest(self, video: str, k: int = 10) -> list[tuple[str, float]]:
    """Returns (id, similarity) of the k videos most similar to a video.

    The video itself is left out. Similarities are at most 1, in falling order.

    Raises:
      UserError: If the index has no such video.
    """
    if video not in self._place:
      raise UserError(f'the index has no video {video!r}')
    place = self._place[video]
    own = self._vectors[place].astype(np.float32)
    near = np.concatenate(
      [
        self._vectors[start : start + _ROWS].astype(np.float32) @ own
        for start in range(0, len(self._ids), _ROWS)
      ]
    )
    near = np.minimum(near, 1)
    near[place] = -np.inf
    best = np.argsort(-near, kind='stable')[: min(k, len(near) - 1)]
    return [(self._ids[i], float(near[i])) for i in best]

  def _read(self, videos: list[range]) -> Float[np.ndarray, 'n x']:
    """Returns a vector of length 1 for each video; their dot products are the
    similarities."""
    rows = np.concatenate([np.asarray(x, np.int64) for x in videos])
    begins = np.cumsum([0, *map(len, videos)])[:-1]
    if self.kind == 'registers':
      found = unit(self._store.take('registers', rows))
      self._store.check_finite(found, rows, 'registers')
      found = unit(np.add.reduceat(found, begins))
      found /= np.sqrt(self._store.manifest.registers)
      return found.reshape(len(videos), -1).astype(np.float16)
    tokens = unit(self._store.tokens('clip', rows)).mean(axis=1)
    self._store.check_finite(tokens, rows, 'tokens')
    return unit(np.add.reduceat(tokens, begins)).astype(np.float16)


def _whole_videos(videos: list[range]) -> Iterator[list[range]]:
  """Yields videos whose rows are read at a time."""
  few: list[range] = []
  count = 0
  for rows in videos:
    few.append(rows)
    count += len(rows)
    if count >= _ROWS:
      yield few
      few, count = [], 0
  if few:
    yield few
