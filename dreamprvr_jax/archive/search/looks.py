"""What the videos of an index look like over time, to find copies."""

import collections
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.catalogue import Catalogue
from dreamprvr_jax.archive.search.duplicates import TIMES, Look, typical
from dreamprvr_jax.archive.search.picked import Picked
from dreamprvr_jax.archive.search.timelines import unit

# Looks that are kept, and videos that the scale is measured on.
_KEPT, _SAMPLE = 2048, 48


class Looks:
  """Reads the looks of videos, and keeps the latest."""

  def __init__(self, store: Store, catalogue: Catalogue):
    """Reads nothing yet."""
    self._store, self._catalogue = store, catalogue
    self._place = {name: i for i, name in enumerate(catalogue.ids)}
    self._kept: collections.OrderedDict[str, Look] = collections.OrderedDict()

  def __call__(self, names: Sequence[str]) -> list[Look]:
    """Returns the looks of some videos."""
    missing = list(dict.fromkeys(x for x in names if x not in self._kept))
    self._kept.update(zip(missing, self._read(missing), strict=True))
    found = []
    for name in names:
      self._kept.move_to_end(name)
      found.append(self._kept[name])
    while len(self._kept) > _KEPT:
      self._kept.popitem(last=False)
    return found

  @functools.cached_property
  def scale(self) -> float:
    """How far different videos of the index are apart; see `duplicates`."""
    names = self._catalogue.ids
    if len(names) > _SAMPLE:
      chosen = np.random.default_rng(0).choice(len(names), _SAMPLE, False)
      names = [names[i] for i in sorted(chosen)]
    return typical(self._read(names))

  def _read(self, names: Sequence[str]) -> list[Look]:
    videos = [self._store.rows_of_video(name) for name in names]
    rows = np.concatenate([[], *videos]).astype(int)
    picked = Picked(self._store, rows)
    return [
      self._look(name, np.asarray(own), picked)
      for name, own in zip(names, videos, strict=True)
    ]

  def _look(
    self, name: str, rows: Int[np.ndarray, ' r'], store: Picked
  ) -> Look:
    count = len(rows)
    # Without known seconds, the rows of a video share it evenly.
    starts, lengths = np.arange(count) / count, np.full(count, 1 / count)
    seconds = float(self._catalogue.seconds[self._place[name]])
    if store.has('starts') and not np.isnan(seconds):
      starts = store.take('starts', rows)
      lengths = store.take('durations', rows)
    elif not np.isnan(seconds) and count == 1:
      lengths = np.array([seconds])
    end = (starts + lengths).max()
    times = (np.arange(TIMES) + 0.5) / TIMES * end
    places = np.maximum(np.searchsorted(starts, times, side='right') - 1, 0)
    found = None
    for place in np.unique(places):
      here = np.flatnonzero(places == place)
      within = (times[here] - starts[place]) / max(lengths[place], 1e-9)
      tokens = _tokens(store, int(rows[place]), within)
      if found is None:
        found = np.zeros((TIMES, tokens.shape[1]), np.float32)
      found[here] = tokens
    assert found is not None  # A video has a row.
    return Look.of(found, seconds, self._catalogue.content(name))


def _tokens(
  store: Picked, row: int, within: Float[np.ndarray, ' t']
) -> Float[np.ndarray, 't d']:
  """Returns a row's unit tokens at fractions of its stretch: of its frames,
  or of its clips if there are more."""
  one = np.array([row])
  mask = store.take('frame_mask', one)[0]
  tokens = store.tokens('frame', one)[0][mask]
  edges = np.arange(len(tokens) + 1) / max(len(tokens), 1)
  if store.has('frame_edges'):
    edges = store.take('frame_edges', one)[0][: len(tokens) + 1]
  clips = store.tokens('clip', one)[0]
  if len(clips) > len(tokens):
    tokens, edges = clips, store.take('clip_edges', one)[0]
  return unit(tokens)[np.searchsorted(edges[1:-1], within, side='right')]
