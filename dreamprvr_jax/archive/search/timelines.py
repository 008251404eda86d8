"""How well the stretches of a video match a query.

The timeline of a query in a video has one value per real frame token, or per
clip if there are more clips (a model may have one frame token for the whole
video). Position i of n stands for the stretch from i/n to (i+1)/n of the video.
Its value is the weighted sum (`clip_weight`, `frame_weight` of the model) of
the query's cosines with two tokens: those of the clip and of the frame at the
middle of the stretch. Without frames, it is the clip's cosine alone. Frames of
unequal length (`frame_edges`) are drawn on a grid that has a position for each,
and where a model's score is a product (`Model.token_score`), tokens are centred
first: TF-PRVR's graph draws the tokens of a stretch towards their mean, so the
products rank videos but hardly tell when. `CENTRED` times the mean of a row's
tokens is taken away, and the value is the cosine with what is left.

A video of several rows has one timeline over the whole file, with positions of
equal length. Each position has the value of the row whose core (`layout.
array_specs`) contains its middle, so that a peak in the overlap of two parts
comes once.

If a model's score is more than best cosines (see `Retriever.is_plain`), the
timeline compares the query's pooled vector and is no part of the score.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float, Int

from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.archive.search.picked import Picked
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.numerics import NORM_FLOOR

# Share of the mean token that is taken away from tokens that are not of unit
# length; docs/search.md has the measured table.
CENTRED = 0.8
# Positions of a row's timeline with frames of unequal length, at most.
_POSITIONS = 4096
# Positions of the timeline of a video of several rows, at most: a video of two
# hours has one for each half second.
_LONG = 2**14
# Frames whose lengths differ by less, as a share of their mean, are of equal
# length.
_EVEN = 1e-3


def timelines(
  queries: Float[np.ndarray, 'q d'],
  clip_tokens: Float[np.ndarray, 'c d'],
  frame_tokens: Float[np.ndarray, 'f d'],
  frame_mask: Bool[np.ndarray, ' f'],
  clip_edges: Float[np.ndarray, ' c+1'],
  clip_weight: float,
  frame_weight: float,
  *,
  frame_edges: Float[np.ndarray, ' f+1'] | None = None,
  product: bool = False,
) -> Float[np.ndarray, 'q g']:
  """Returns the timelines of some queries in one video.

  Args:
    queries: One vector per query.
    clip_tokens: Tokens of the video's clips.
    frame_tokens: Tokens of its frames.
    frame_mask: Which frames are real.
    clip_edges: Borders of the clips as fractions of the video.
    clip_weight: Weight of the clips.
    frame_weight: Weight of the frames.
    frame_edges: Borders of the real frames as fractions of the video; None if
      they share it evenly.
    product: Whether a score is the product of the unit query with a token, so
      that tokens are centred.
  """
  count = max(len(clip_tokens), int(frame_mask.sum()))
  if frame_edges is not None:
    count = min(round(1 / np.diff(frame_edges).min()), _POSITIONS)
  return _values(
    unit(queries),
    clip_tokens,
    frame_tokens[frame_mask],
    clip_edges,
    frame_edges,
    (np.arange(count) + 0.5) / count,
    (clip_weight, frame_weight),
    product,
  )


def _values(
  queries: Float[np.ndarray, 'q d'],
  clips: Float[np.ndarray, 'c d'],
  frames: Float[np.ndarray, 'f d'],
  clip_edges: Float[np.ndarray, ' c+1'],
  frame_edges: Float[np.ndarray, ' f+1'] | None,
  places: Float[np.ndarray, ' p'],
  weights: tuple[float, float],
  product: bool,
) -> Float[np.ndarray, 'q p']:
  """Returns the values of unit queries at places of a row.

  Args:
    queries: The queries, of unit length.
    clips: Tokens of the clips.
    frames: Tokens of the real frames.
    clip_edges: See `timelines`.
    frame_edges: See `timelines`.
    places: Fractions of the row.
    weights: Weights of the clips and of the frames.
    product: See `timelines`.
  """
  found = queries @ unit(clips).T
  found = found[:, np.searchsorted(clip_edges[1:-1], places, side='right')]
  if not len(frames):
    return found
  if frame_edges is None:
    frame = np.minimum(places * len(frames), len(frames) - 1).astype(int)
  else:
    frame = np.searchsorted(frame_edges[1:-1], places, side='right')
  if product:
    shares = (
      np.ones(len(frames)) if frame_edges is None else np.diff(frame_edges)
    )
    mean = np.average(frames, axis=0, weights=shares).astype(np.float32)
    frames = frames - CENTRED * mean
  near = queries @ unit(frames).T
  return weights[0] * found + weights[1] * near[:, frame]


@dataclasses.dataclass(frozen=True)
class Timelines:
  """The timelines of some queries in one video.

  Attributes:
    values: One for each of g equal stretches.
    seconds: Seconds of the video, NaN if unknown.
  """

  values: Float[np.ndarray, 'q g']
  seconds: float


def video_timelines(
  store: Store | Picked,
  model: Model,
  queries: Float[np.ndarray, 'q d'],
  rows: range,
) -> Timelines:
  """Returns the timelines of some queries in a video of an index.

  Args:
    store: The index, or the rows of the video.
    model: Has the weights of both branches and `token_score`.
    queries: One vector per query.
    rows: The rows of the video.
  """
  queries = unit(queries)
  numbers = np.asarray(rows, np.int64)
  stretches = _stretches(store, numbers)
  edges = [_frame_edges(store, row) for row in numbers]
  counts = [
    _count(store, row, edge) for row, edge in zip(rows, edges, strict=True)
  ]
  positions = counts[0]
  if len(rows) > 1:
    finest = float((stretches.lengths / counts).min())
    positions = min(math.ceil(stretches.end / finest), _LONG)
  middles = (np.arange(positions) + 0.5) / positions * stretches.end
  owner = stretches.owners(middles)
  found = np.empty((len(queries), positions), np.float32)
  for place in np.unique(owner):
    here = owner == place
    row = numbers[place : place + 1]
    mask = store.take('frame_mask', row)[0]
    fractions = middles[here] - stretches.starts[place]
    fractions = np.clip(fractions / stretches.lengths[place], 0, 1)
    found[:, here] = _values(
      queries,
      store.tokens('clip', row)[0],
      store.tokens('frame', row)[0][mask],
      store.take('clip_edges', row)[0],
      edges[place],
      fractions,
      (model.clip_weight, model.frame_weight),
      model.token_score == 'product',
    )
  return Timelines(found, stretches.end if stretches.known else math.nan)


def _count(store: Store | Picked, row: int, edges: np.ndarray | None) -> int:
  """Returns the positions of a row's own timeline."""
  if edges is not None:
    return min(round(1 / float(np.diff(edges).min())), _POSITIONS)
  real = int(store.take('frame_mask', np.array([row])).sum())
  return max(store.manifest.clips, real)


def _frame_edges(
  store: Store | Picked, row: int
) -> Float[np.ndarray, ' f+1'] | None:
  """Returns the borders of a row's real frames; None if they share it
  evenly."""
  if not store.has('frame_edges'):
    return None
  one = np.array([row])
  real = int(store.take('frame_mask', one).sum())
  edges = store.take('frame_edges', one)[0][: real + 1]
  lengths = np.diff(edges)
  if not real or np.ptp(lengths) < _EVEN * lengths.mean():
    return None
  return edges if lengths.min() > 0 else None


@dataclasses.dataclass(frozen=True)
class _Stretches:
  """Where the rows of a video lie in it.

  Attributes:
    starts: (r,) their starts, in seconds; in rows if these are unknown.
    lengths: (r,) their lengths, likewise.
    cores: (r, 2) start and end of what each answers for, likewise.
    known: Whether the seconds are known.
  """

  starts: Float[np.ndarray, ' r']
  lengths: Float[np.ndarray, ' r']
  cores: Float[np.ndarray, 'r 2']
  known: bool

  @property
  def end(self) -> float:
    """The end of the video."""
    return float((self.starts + self.lengths).max())

  def owners(self, places: Float[np.ndarray, ' p']) -> Int[np.ndarray, ' p']:
    """Returns the row that answers for each place."""
    real = np.flatnonzero(self.cores[:, 1] > self.cores[:, 0])
    if not len(real):
      return np.zeros(len(places), np.int64)
    begins = self.cores[real, 0]
    order = np.argsort(begins, kind='stable')
    found = np.searchsorted(begins[order], places, side='right') - 1
    return real[order][np.maximum(found, 0)]


def _stretches(
  store: Store | Picked, rows: Int[np.ndarray, ' r']
) -> _Stretches:
  """Returns where some rows lie in their video."""
  lengths = store.take('durations', rows)
  known = bool((np.isfinite(lengths) & (lengths > 0)).all())
  if not (known and store.has('starts')):
    starts = np.arange(len(rows), dtype=np.float64)
    lengths = lengths if known and len(rows) == 1 else np.ones(len(rows))
    cores = np.stack([starts, starts + lengths], axis=1)
    return _Stretches(starts, lengths, cores, known)
  starts = store.take('starts', rows)
  cores = starts[:, None] + store.take('cores', rows) * lengths[:, None]
  return _Stretches(starts, lengths, cores, known)


def pooled(
  timeline: Float[np.ndarray, ' g'], most: int
) -> Float[np.ndarray, ' h']:
  """Returns a timeline of at most `most` positions: the greatest value of each
  stretch."""
  if len(timeline) <= most:
    return timeline
  return np.maximum.reduceat(timeline, np.arange(most) * len(timeline) // most)


def unit(x: Float[np.ndarray, '... d']) -> Float[np.ndarray, '... d']:
  """Returns float32 vectors of length 1; zero vectors stay zero."""
  x = np.asarray(x, np.float32)
  norms = np.linalg.norm(x, axis=-1, keepdims=True)
  return x / np.maximum(norms, NORM_FLOOR)
