"""Where in its videos a query is found: token scores of the best matches."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.numerics import inverse_norm
from dreamprvr_jax.progress import Watch
from dreamprvr_jax.types import VideoEncoding


@dataclasses.dataclass(frozen=True)
class Match:
  """One query's ranking and the token scores of some videos; numpy.

  Attributes:
    query: Index of the query.
    rank: Rank of its right video, from 1.
    videos: (k,) best videos in order, then the right one if not among them.
    ranks: (k,) their ranks.
    scores: (k,) their fused scores.
    clip_scores: (k, c) cosine of the query to each clip token.
    frame_scores: One (f,) array per video, its real frames only.
  """

  query: int
  rank: int
  videos: Int[np.ndarray, ' k']
  ranks: Int[np.ndarray, ' k']
  scores: Float[np.ndarray, ' k']
  clip_scores: Float[np.ndarray, 'k c']
  frame_scores: list[Float[np.ndarray, ' f']]


def examine(
  evaluator: Evaluator,
  variables: Any,
  chosen: Int[np.ndarray, ' m'],
  *,
  top: int = 3,
) -> list[Match]:
  """Returns the best matches of some queries with their token scores.

  Args:
    evaluator: The evaluator of the queries' split.
    variables: The model's variables.
    chosen: Indices of the queries.
    top: Best videos shown for each.
  """
  queries, corpus = evaluator.encode(variables, Watch(show=False))
  vectors = evaluator.pick(queries, chosen)
  scores = evaluator.scores(variables, vectors, corpus)
  found = [
    _ranked(row, right, top)
    for row, right in zip(
      scores, evaluator.task.caption_video[chosen], strict=True
    )
  ]
  # One pass over the corpus for the tokens of all of them.
  tokens = corpus.take(np.concatenate([videos for videos, _ in found]))
  matches, start = [], 0
  for row, (videos, ranks) in enumerate(found):
    rows = slice(start, start + len(videos))
    start = rows.stop
    shown = jax.tree.map(lambda x, rows=rows: x[rows], tokens)
    clip, frame = _token_cosines(evaluator.pooled(vectors[row]), shown)
    right = evaluator.task.caption_video[chosen[row]]
    matches.append(
      Match(
        query=int(chosen[row]),
        rank=int(ranks[videos == right][0]),
        videos=videos,
        ranks=ranks,
        scores=scores[row, videos],
        clip_scores=np.asarray(clip),
        frame_scores=[
          values[keep]
          for values, keep in zip(
            np.asarray(frame), shown.frame_mask, strict=True
          )
        ],
      )
    )
  return matches


def _ranked(
  scores: Float[np.ndarray, ' v'], right: int, top: int
) -> tuple[Int[np.ndarray, ' k'], Int[np.ndarray, ' k']]:
  """Returns the best videos and their ranks.

  If the right video is not among them, it comes last.
  """
  order = np.argsort(-scores, kind='stable')
  rank = int(np.flatnonzero(order == right)[0]) + 1
  ranks = np.arange(1, min(top, len(order)) + 1)
  if rank not in ranks:
    ranks = np.append(ranks, rank)
  return order[ranks - 1], ranks


@jax.jit
def _token_cosines(
  query: Float[Array, ' d'], videos: VideoEncoding
) -> tuple[Float[Array, 'k c'], Float[Array, 'k f']]:
  """Returns the cosines of one query to all tokens of some videos."""
  cosine = lambda tokens: (
    (tokens @ query) * inverse_norm(tokens)[..., 0] * inverse_norm(query)
  )
  return cosine(videos.clip_tokens), cosine(videos.frame_tokens)
