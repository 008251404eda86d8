"""Lists of moments over a whole corpus, one for each query.

A query's list has the moments of its best videos, by falling score of the
moment; see `archive.search.moments`.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from dreamprvr_jax.archive.search.moments import find_moments
from dreamprvr_jax.archive.search.timelines import timelines

# Moments of a video that may enter a list.
_PER_VIDEO = 3

# Clip tokens (c, d), frame tokens (f, d) and the mask of real frames (f,).
Tokens = tuple[
  Float[np.ndarray, 'c d'], Float[np.ndarray, 'f d'], Bool[np.ndarray, ' f']
]


@dataclasses.dataclass(frozen=True)
class MomentLists:
  """The m best moments for each of n queries; numpy.

  Attributes:
    spans: (n, m, 2) start and end in seconds; NaN behind the last moment.
    videos: (n, m) the video of each moment.
  """

  spans: Float[np.ndarray, 'n m 2']
  videos: Int[np.ndarray, 'n m']


def moment_lists(
  model: Any,
  queries: Float[np.ndarray, 'n d'],
  corpus: Iterable[Tokens],
  scores: Float[np.ndarray, 'n v'],
  clip_edges: Float[np.ndarray, 'v c+1'],
  durations: Float[np.ndarray, ' v'],
  length: int,
  frame_edges: Sequence[Float[np.ndarray, ' f+1']] | None = None,
) -> MomentLists:
  """Returns the moments of each query in its best videos.

  Args:
    model: Has the weights of both branches and `token_score`.
    queries: One vector each.
    corpus: The tokens of every video, in the corpus' order; read once.
    scores: Scores of the videos.
    clip_edges: Borders of the clips as fractions of the videos.
    durations: Seconds of the videos.
    length: Moments of a list, and videos that it draws on, at most.
    frame_edges: Borders of each video's frames as fractions of it; None if they
      share it evenly.
  """
  depth = min(length, scores.shape[1])
  best = np.argsort(-scores, axis=1, kind='stable')[:, :depth]
  spans = np.full((*best.shape, _PER_VIDEO, 2), np.nan)
  heights = np.full((*best.shape, _PER_VIDEO), -np.inf)
  for video, (where, tokens) in enumerate(
    zip(_places(best, scores.shape[1]), corpus, strict=True)
  ):
    rows, places = where
    lines = timelines(
      queries[rows],
      *tokens,
      clip_edges[video],
      model.clip_weight,
      model.frame_weight,
      frame_edges=None if frame_edges is None else frame_edges[video],
      product=model.token_score == 'product',
    )
    for row, place, line in zip(rows, places, lines, strict=True):
      found = find_moments(
        line, float(durations[video]), scores[row, video], _PER_VIDEO
      )
      for number, moment in enumerate(found):
        spans[row, place, number] = moment.start, moment.end
        heights[row, place, number] = moment.score
  # Equal scores: in the order of the videos, then of their moments.
  flat = heights.reshape(len(scores), -1)
  order = np.argsort(-flat, axis=1, kind='stable')[:, :length]
  take = lambda values: np.take_along_axis(values, order, axis=1)
  return MomentLists(
    spans=np.take_along_axis(
      spans.reshape(len(scores), -1, 2), order[..., None], axis=1
    ),
    videos=take(np.repeat(best, _PER_VIDEO, axis=1)),
  )


def _places(
  best: Int[np.ndarray, 'n k'], num_videos: int
) -> Iterable[tuple[Int[np.ndarray, ' m'], Int[np.ndarray, ' m']]]:
  """Yields the (rows, columns) of `best` where each video is."""
  order = np.argsort(best, axis=None, kind='stable')
  ends = np.searchsorted(
    best.ravel()[order], np.arange(num_videos), side='right'
  )
  for here in np.split(order, ends[:-1]):
    yield here // best.shape[1], here % best.shape[1]
