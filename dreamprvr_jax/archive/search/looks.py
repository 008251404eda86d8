"""What the videos of an index look like over time, to find copies."""

import collections
import functools

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.catalogue import Catalogue
from dreamprvr_jax.archive.search.duplicates import TIMES, Look, typical
from dreamprvr_jax.archive.search.timelines import unit

# Looks that are kept, and videos that the scale is measured on.
_KEPT, _SAMPLE = 2048, 48


class Looks:
  """Reads the looks of videos, and keeps the latest."""

  def __init__(self, store: Store, catalogue: Catalogue):
    """Reads nothing yet."""
    self._store, self._catalogue = store, catalogue
    self._rows_of = store.rows_of()
    self._place = {name: i for i, name in enumerate(catalogue.ids)}
    self._kept: collections.OrderedDict[str, Look] = collections.OrderedDict()

  def __call__(self, name: str) -> Look:
    """Returns the look of a video."""
    if name not in self._kept:
      self._kept[name] = self._read(name)
      if len(self._kept) > _KEPT:
        self._kept.popitem(last=False)
    self._kept.move_to_end(name)
    return self._kept[name]

  @functools.cached_property
  def scale(self) -> float:
    """How far different videos of the index are apart; see `duplicates`."""
    names = self._catalogue.ids
    if len(names) > _SAMPLE:
      chosen = np.random.default_rng(0).choice(len(names), _SAMPLE, False)
      names = [names[i] for i in sorted(chosen)]
    return typical([self._read(name) for name in names])

  def _read(self, name: str) -> Look:
    rows = np.sort(np.atleast_1d(self._rows_of[name]))
    count = len(rows)
    # Without known seconds, the rows of a video share it evenly.
    starts, lengths = np.arange(count) / count, np.full(count, 1 / count)
    seconds = float(self._catalogue.seconds[self._place[name]])
    if self._store.has('starts') and not np.isnan(seconds):
      starts = self._store.take('starts', rows)
      lengths = self._store.take('durations', rows)
    elif not np.isnan(seconds) and count == 1:
      lengths = np.array([seconds])
    end = (starts + lengths).max()
    times = (np.arange(TIMES) + 0.5) / TIMES * end
    places = np.maximum(np.searchsorted(starts, times, side='right') - 1, 0)
    found = None
    for place in np.unique(places):
      here = np.flatnonzero(places == place)
      within = (times[here] - starts[place]) / max(lengths[place], 1e-9)
      tokens = self._tokens(int(rows[place]), within)
      if found is None:
        found = np.zeros((TIMES, tokens.shape[1]), np.float32)
      found[here] = tokens
    assert found is not None  # A video has a row.
    return Look.of(found, seconds, self._catalogue.content(name))

  def _tokens(
    self, row: int, within: Float[np.ndarray, ' t']
  ) -> Float[np.ndarray, 't d']:
    """Returns a row's unit tokens at fractions of its stretch: of its frames,
    or of its clips if there are more."""
    one = np.array([row])
    mask = self._store.take('frame_mask', one)[0]
    tokens = self._store.tokens('frame', one)[0][mask]
    edges = np.arange(len(tokens) + 1) / max(len(tokens), 1)
    if self._store.has('frame_edges'):
      edges = self._store.take('frame_edges', one)[0][: len(tokens) + 1]
    clips = self._store.tokens('clip', one)[0]
    if len(clips) > len(tokens):
      tokens, edges = clips, self._store.take('clip_edges', one)[0]
    return unit(tokens)[np.searchsorted(edges[1:-1], within, side='right')]
