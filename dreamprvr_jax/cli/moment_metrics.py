"""--mode=evaluate --moments: the right video and when in it, of a retriever
that was never told when."""

from typing import Any

import numpy as np

from data_pipeline.corpus import Split
from dreamprvr_jax.archive.search.moments import find_moments, timelines
from dreamprvr_jax.cli import joins
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.evaluation.encoder import Watch
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.metrics import moments as metrics
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.progress import bar

# Moments of a video that may enter a list.
_PER_VIDEO = 3


def check_spans(split: Split) -> None:
  """Raises UserError if no caption of the split has a span."""
  if not len(_with_span(split)):
    raise UserError(
      f'--moments: no caption of the split {split.name!r} has both a time span '
      'and a video of known duration; name the annotation files with '
      'config.data.moments, or choose another config.data.eval_split'
    )


def evaluate(
  evaluator: Evaluator,
  model: Model,
  variables: Any,
  split: Split,
  scores: np.ndarray,
  ranks: np.ndarray,
  *,
  progress: bool,
) -> dict[str, Any]:
  """Returns the metrics of the captions that have a span, ready for JSON.

  A query's list: the moments of its best videos, by falling score of the
  moment; see `dreamprvr_jax.archive.search.moments`.

  Args:
    evaluator: Of the split.
    model: What it evaluates.
    variables: The model's variables.
    split: The split.
    scores: (n, v) of all captions.
    ranks: (n,) of the right videos by these scores.
    progress: Whether a progress bar is shown.
  """
  chosen = _with_span(split)
  depth = min(max(metrics.CUTOFFS), len(split.video_ids))
  scores = scores[chosen]
  best = np.argsort(-scores, axis=1, kind='stable')[:, :depth]
  queries, corpus = evaluator.encode(variables, Watch(show=False))
  vectors = evaluator.pooled(evaluator.pick(queries, chosen.astype(np.int32)))
  edges = _clip_edges(split)
  shape = (len(chosen), depth, _PER_VIDEO)
  spans = np.full((*shape, 2), np.nan)
  heights = np.full(shape, -np.inf)
  # Where in the lists each video is.
  listed = np.argsort(best, axis=None, kind='stable')
  ends = np.searchsorted(
    best.ravel()[listed], np.arange(len(split.video_ids)), side='right'
  )
  encoded = (
    (part.clip_tokens[i], part.frame_tokens[i], part.frame_mask[i])
    for part in corpus.whole()
    for i in range(len(part.frame_mask))
  )
  watched = bar(encoded, 'moments', total=len(ends), show=progress)
  for video, tokens in enumerate(watched):
    here = listed[ends[video - 1] if video else 0 : ends[video]]
    rows, places = np.unravel_index(here, best.shape)
    lines = timelines(
      np.asarray(vectors)[rows],
      *tokens,
      edges[video],
      model.clip_weight,
      model.frame_weight,
    )
    for row, place, line in zip(rows, places, lines, strict=True):
      found = find_moments(
        line, float(split.durations[video]), scores[row, video], _PER_VIDEO
      )
      for number, moment in enumerate(found):
        spans[row, place, number] = moment.start, moment.end
        heights[row, place, number] = moment.score
  # Videos of equal score: the order of the videos, then of their moments.
  flat = heights.reshape(len(chosen), -1)
  order = np.argsort(-flat, axis=1, kind='stable')[:, : max(metrics.CUTOFFS)]
  right = best == split.caption_video[chosen][:, None]
  right = np.repeat(right, _PER_VIDEO, axis=1)
  spans = np.take_along_axis(
    spans.reshape(len(chosen), -1, 2), order[..., None], axis=1
  )
  return {
    'queries': len(chosen),
    **metrics.summary(
      spans,
      np.take_along_axis(right, order, axis=1),
      split.moments[chosen],
      ranks[chosen],
    ),
  }


def show(found: dict[str, Any]) -> None:
  """Prints the metrics as a table."""
  rows = {
    'the video alone' if name == 'video' else f'moment, {name}': values
    for name, values in found.items()
    if name != 'queries'
  }
  joins.say(
    f'\nmoments in the whole corpus, {found["queries"]:,} queries, learned '
    'without spans'
  )
  columns = tuple(f'R@{k}' for k in metrics.CUTOFFS)
  joins.say(retrieval.format_table(rows, columns))


def _with_span(split: Split) -> np.ndarray:
  """Returns the captions whose span and whose video's duration are known."""
  known = np.isfinite(split.moments).all(axis=1)
  return np.flatnonzero(
    known & np.isfinite(split.durations[split.caption_video])
  )


def _clip_edges(split: Split) -> np.ndarray:
  """Returns the borders (v, c+1) of the clips as fractions of the videos."""
  plan = split.clip_plan
  shape = (len(split.video_ids), split.options.num_clips)
  sizes = np.ones(shape) if plan is None else plan[:, 0]
  ends = np.cumsum(sizes, axis=1, dtype=np.float64)
  return np.pad(ends / ends[:, -1:], ((0, 0), (1, 0)))
