"""The pictures at the end of a run: training curves, timelines."""

import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from data_pipeline.corpus import Split
from dreamprvr_jax.evaluation.evaluator import Evaluator
from dreamprvr_jax.evaluation.timelines import Match, examine
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.report.curves import plot_training
from dreamprvr_jax.report.timelines import (
  QueryExample,
  VideoRow,
  plot_timelines,
)
from dreamprvr_jax.train.metric_log import read_rows

_log = logging.getLogger(__name__)

CURVES = 'curves.png'
TIMELINES = 'timelines.png'


def draw(
  workdir: pathlib.Path,
  evaluator: Evaluator,
  variables: Any,
  split: Split,
  num_queries: int,
) -> None:
  """Writes curves.png and timelines.png into the workdir."""
  matches = examine(evaluator, variables, choose(split, num_queries))
  if jax.process_index() != 0:
    return
  rows = read_rows(workdir)
  if rows:
    plot_training(rows, workdir / CURVES, chance=chance_of(rows))
    _log.info('training curves: %s', workdir / CURVES)
  if matches:
    plot_timelines(
      [example(match, split) for match in matches], workdir / TIMELINES
    )
    _log.info('timelines: %s', workdir / TIMELINES)


def chance_of(rows: Sequence[Mapping[str, Any]]) -> float | None:
  """Returns the SumR of a random ranking on the split of the rows."""
  evaluated = [row for row in rows if row.get('kind') == 'eval']
  if not evaluated:
    return None
  return retrieval.chance(evaluated[-1]['num_videos'])['SumR']


def choose(split: Split, count: int) -> np.ndarray:
  """Returns the captions to show: evenly spaced, known moments first.

  They are not chosen by their ranks, so the picture is a fair sample.
  """
  known = np.flatnonzero(np.isfinite(split.moments).all(axis=1))
  pool = known if len(known) else np.arange(len(split.caption_ids))
  count = min(count, len(pool))
  return pool[np.linspace(0, len(pool) - 1, count + 2)[1:-1].astype(int)]


def by_time(values: np.ndarray, split: Split, video: int) -> np.ndarray:
  """Returns values of a video's clips (..., c) for equal stretches of time.

  The value of a merged clip is repeated for each of its frames.
  """
  if split.clip_plan is None:
    return values
  return np.repeat(values, split.clip_plan[video, 0], axis=-1)


def example(match: Match, split: Split) -> QueryExample:
  """Returns a match as the dataclass that the picture takes."""
  right = int(split.caption_video[match.query])
  videos = []
  for row, video in enumerate(match.videos):
    duration = float(split.durations[video])
    is_right = int(video) == right
    moment = split.moments[match.query] / duration
    shown = is_right and bool(np.isfinite(moment).all())
    videos.append(
      VideoRow(
        video_id=split.video_ids[video],
        score=float(match.scores[row]),
        is_right=is_right,
        duration=duration if np.isfinite(duration) else None,
        clip_scores=by_time(match.clip_scores[row], split, int(video)),
        frame_scores=match.frame_scores[row],
        moment=(tuple(np.clip(moment, 0.0, 1.0).tolist()) if shown else None),
        rank=int(match.ranks[row]),
      )
    )
  return QueryExample(
    query=split.captions[match.query], rank=match.rank, videos=videos
  )
