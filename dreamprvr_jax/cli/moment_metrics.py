"""evaluate --moments: finding the right video and the moment in it.

No retriever learns from moments.
"""

from typing import Any

import numpy as np

from data_pipeline.corpus import Split
from dreamprvr_jax.archive.index.encoding import clip_edges
from dreamprvr_jax.archive.search.moment_lists import moment_lists
from dreamprvr_jax.cli import console
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.metrics import moments as metrics
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.progress import Watch, bar


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

  Args:
    evaluator: The split's evaluator.
    model: The model that it evaluates.
    variables: The model's variables.
    split: The split.
    scores: (n, v) scores of all captions.
    ranks: (n,) ranks of the right videos by these scores.
    progress: Whether a progress bar is shown.
  """
  chosen = _with_span(split)
  queries, corpus = evaluator.encode(variables, Watch(show=False))
  vectors = evaluator.pooled(evaluator.pick(queries, chosen.astype(np.int32)))
  encoded = (
    (
      np.asarray(part.clip_tokens[i]),
      np.asarray(part.frame_tokens[i]),
      np.asarray(part.frame_mask[i]),
    )
    for part in corpus.whole()
    for i in range(len(part.frame_mask))
  )
  found = moment_lists(
    model,
    np.asarray(vectors),
    bar(encoded, 'moments', total=len(split.video_ids), show=progress),
    scores[chosen],
    clip_edges(_clip_sizes(split)),
    split.durations,
    max(metrics.CUTOFFS),
    _frame_edges(split),
  )
  return {
    'queries': len(chosen),
    **metrics.summary(
      found.spans,
      found.videos == split.caption_video[chosen][:, None],
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
  console.say(
    f'\nmoments in the whole corpus, {found["queries"]:,} queries, learned '
    'without spans'
  )
  columns = tuple(f'R@{k}' for k in metrics.CUTOFFS)
  console.say(retrieval.format_table(rows, columns))


def _with_span(split: Split) -> np.ndarray:
  """Returns the captions whose span and whose video's duration are known."""
  known = np.isfinite(split.moments).all(axis=1)
  return np.flatnonzero(
    known & np.isfinite(split.durations[split.caption_video])
  )


def _frame_edges(split: Split) -> list[np.ndarray] | None:
  """Returns the borders of each video's frames as fractions of it; None if
  they share it evenly."""
  if split.frame_edges is None:
    return None
  return [edges / edges[-1] for edges in split.frame_edges]


def _clip_sizes(split: Split) -> np.ndarray:
  """Returns the frames (v, c) of each clip, 1 where clips are equally long."""
  shape = (len(split.video_ids), split.options.num_clips)
  return np.ones(shape) if split.clip_plan is None else split.clip_plan[:, 0]
