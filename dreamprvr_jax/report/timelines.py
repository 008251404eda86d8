"""A picture of the moments in videos that match a few queries."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.report import canvas
from dreamprvr_jax.report.canvas import FAINT, INK, new_figure, save

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# Blue against orange, which colour-blind readers can tell apart; the moment
# has borders besides its green.
RIGHT = '#D55E00'
OTHER = '#0072B2'
MOMENT = '#009E73'

# Inches. Text on the left has a fixed width, so that all timelines align.
_WIDTH = 12.8
_LEFT = 3.5
_RIGHT_MARGIN = 0.35
_ROW = 0.62
_ROW_GAP = 0.38
_LINE = 0.25
_BLOCK_GAP = 0.36
_TOP = 0.62
_BOTTOM = 0.15

_RANK_WIDTH = 2.3
_MAX_LINES = 2

_SENTENCE = {'fontsize': 12.5, 'fontweight': 'bold'}


@dataclasses.dataclass(frozen=True, eq=False)
class VideoRow:
  """A video as a query sees it.

  Attributes:
    video_id: its name.
    score: the score by which it was ranked.
    is_right: whether the query describes this video.
    duration: its length in seconds; None if unknown.
    clip_scores: (c,) similarity of the query to each clip; each clip counts
      for an equal share of the video.
    frame_scores: (f,) similarity to each frame that is real, none padded.
    moment: the moment that the query describes, start and end as fractions of
      the video; None if unknown.
    rank: its rank from 1; None for its position among the given rows.
  """

  video_id: str
  score: float
  is_right: bool
  duration: float | None
  clip_scores: Float[np.ndarray, ' c']
  frame_scores: Float[np.ndarray, ' f']
  moment: tuple[float, float] | None = None
  rank: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class QueryExample:
  """A query, the rank of its video, and the videos to show.

  Attributes:
    query: the sentence.
    rank: the rank of the right video, from 1.
    videos: the best ranked videos in order, then the right one if it is not
      among them.
  """

  query: str
  rank: int
  videos: Sequence[VideoRow]


def plot_timelines(
  examples: Sequence[QueryExample], path: str | os.PathLike
) -> None:
  """Draws a few queries with the scores along their best videos into a PNG.

  Each query is a block: the sentence and the rank of the right video, then a
  row for each video with its rank, name and score on the left and its
  timeline on the right. Clip scores are filled steps and frame scores a line,
  on one scale for all rows of a query. A triangle marks the best moment, and a
  shaded span marks the moment that the query describes.

  Args:
    examples: three to five queries make a readable picture.
    path: the file to write; an older one is replaced.

  Raises:
    ValueError: without examples, for a query without videos, or for scores
      that are not vectors.
  """
  _check(examples)
  ruler = new_figure(1, 1)
  width = _WIDTH - 0.25 - _RANK_WIDTH - _RIGHT_MARGIN
  blocks = [
    canvas.wrap(ruler, example.query, width, _MAX_LINES, **_SENTENCE)
    or ['(empty query)']
    for example in examples
  ]
  heights = [
    len(lines) * _LINE + 0.12 + len(example.videos) * (_ROW + _ROW_GAP)
    for lines, example in zip(blocks, examples, strict=True)
  ]
  height = _TOP + sum(heights) + _BLOCK_GAP * (len(heights) - 1) + _BOTTOM
  figure = new_figure(_WIDTH, height)
  # Everything is placed in inches here: rows of text and axes must align.
  figure.set_layout_engine('none')

  _draw_legend(figure, height)
  top = _TOP
  for number, (example, lines) in enumerate(zip(examples, blocks, strict=True)):
    if number:
      _draw_rule(figure, top - _BLOCK_GAP / 2 - 0.06, height)
    _draw_block(figure, example, lines, top, height)
    top += heights[number] + _BLOCK_GAP
  save(figure, path)


def _check(examples: Sequence[QueryExample]) -> None:
  if not examples:
    raise ValueError('no examples to draw; expected at least one')
  for example in examples:
    if not example.videos:
      raise ValueError(f'no videos to draw for the query {example.query!r}')
    for video in example.videos:
      for name in ('clip_scores', 'frame_scores'):
        shape = np.shape(getattr(video, name))
        if len(shape) != 1:
          raise ValueError(
            f'{name} of video {video.video_id!r} has the shape {shape}; '
            'expected a vector'
          )


def _text(figure: 'Figure', x: float, y: float, text: str, **kwargs: Any):
  """Writes text at inches from the top left corner, never read as TeX."""
  width, height = figure.get_size_inches()
  look = {'color': INK, 'ha': 'left', 'va': 'center', 'parse_math': False}
  return figure.text(x / width, 1 - y / height, text, **(look | kwargs))


def _draw_rule(figure: 'Figure', y: float, height: float) -> None:
  from matplotlib.lines import Line2D

  ends = (0.25 / _WIDTH, 1 - _RIGHT_MARGIN / _WIDTH)
  level = 1 - y / height
  figure.add_artist(Line2D(ends, (level, level), color='#DDDDDD', linewidth=1))


def _draw_block(
  figure: 'Figure',
  example: QueryExample,
  lines: list[str],
  top: float,
  height: float,
) -> None:
  """Draws one query with its rows, from `top` inches below the upper edge."""
  for line in lines:
    _text(figure, 0.25, top + _LINE / 2, line, **_SENTENCE)
    top += _LINE
  _text(
    figure,
    _WIDTH - _RIGHT_MARGIN,
    top - (len(lines) - 0.5) * _LINE,
    f'right video: rank {example.rank}',
    fontsize=10.5,
    ha='right',
    color=RIGHT,
    fontweight='bold',
  )
  top += 0.12
  bounds = _bounds(example.videos)
  for position, video in enumerate(example.videos, start=1):
    rank = video.rank
    if rank is None:
      rank = example.rank if video.is_right else position
    _draw_labels(figure, video, rank, top)
    box = (
      _LEFT / _WIDTH,
      1 - (top + _ROW) / height,
      1 - (_LEFT + _RIGHT_MARGIN) / _WIDTH,
      _ROW / height,
    )
    _draw_timeline(figure.add_axes(box), video, bounds)
    top += _ROW + _ROW_GAP


def _bounds(videos: Sequence[VideoRow]) -> tuple[float, float]:
  """Returns the scale for a query's rows: common, so rows can be compared."""
  scores = np.concatenate(
    [v for video in videos for v in (video.clip_scores, video.frame_scores)]
  )
  scores = scores[np.isfinite(scores)]
  if not scores.size:
    return 0.0, 1.0
  low, high = float(scores.min()), float(scores.max())
  margin = 0.08 * (high - low) or 0.05
  # Room above for the triangle.
  return low - margin, high + 3.5 * margin


def _draw_labels(
  figure: 'Figure', video: VideoRow, rank: int, top: float
) -> None:
  color = RIGHT if video.is_right else INK
  _text(
    figure,
    0.68,
    top + 0.19,
    f'{rank}',
    fontsize=14 if rank < 1000 else 10,
    ha='right',
    color=color,
    fontweight='bold',
  )
  look = {'fontsize': 9.5, 'color': color}
  look['fontweight'] = 'bold' if video.is_right else 'normal'
  name = canvas.shorten(figure, video.video_id, _LEFT - 0.82 - 0.2, **look)
  _text(figure, 0.82, top + 0.17, name, **look)
  look = {'fontsize': 9, 'color': color if video.is_right else FAINT}
  _text(figure, 0.82, top + 0.4, f'score {video.score:.3f}', **look)


def _draw_timeline(
  axes: 'Axes', video: VideoRow, bounds: tuple[float, float]
) -> None:
  color = RIGHT if video.is_right else OTHER
  length = video.duration or 1.0
  axes.set_xlim(0, length)
  axes.set_ylim(*bounds)
  if video.moment is not None:
    _draw_moment(axes, video.moment, length)
  clips = np.asarray(video.clip_scores, float)
  if clips.size:
    edges = np.linspace(0, length, clips.size + 1)
    axes.stairs(
      *(clips, edges),
      baseline=bounds[0],
      fill=True,
      color=color,
      alpha=0.28,
      linewidth=0,
    )
    axes.stairs(clips, edges, baseline=None, color=color, linewidth=1)
  frames = np.asarray(video.frame_scores, float)
  if frames.size:
    # A frame stands for the middle of its share, as a clip's step does.
    middles = (np.arange(frames.size) + 0.5) * length / frames.size
    axes.plot(middles, frames, color=INK, linewidth=1.1)
  _draw_best(axes, clips, frames, length, color)
  _finish(axes, video.duration)


def _draw_moment(
  axes: 'Axes', moment: tuple[float, float], length: float
) -> None:
  start, end = (float(np.clip(m, 0, 1)) * length for m in sorted(moment))
  axes.axvspan(start, end, color=MOMENT, alpha=0.2, linewidth=0, zorder=0)
  for border in (start, end):
    # Borders at the very ends would be cut in half by the axes.
    axes.axvline(border, color=MOMENT, linewidth=1.8, zorder=1, clip_on=False)


def _draw_best(
  axes: 'Axes',
  clips: np.ndarray,
  frames: np.ndarray,
  length: float,
  color: str,
) -> None:
  """Marks the best moment: of the clips, or of the frames without clips."""
  scores = clips if np.isfinite(clips).any() else frames
  if not np.isfinite(scores).any():
    return
  best = int(np.nanargmax(np.where(np.isfinite(scores), scores, np.nan)))
  axes.plot(
    [(best + 0.5) * length / scores.size],
    [0.93],
    transform=axes.get_xaxis_transform(),
    marker='v',
    markersize=8,
    markerfacecolor=color,
    markeredgecolor='white',
    clip_on=False,
    zorder=5,
  )


def _finish(axes: 'Axes', duration: float | None) -> None:
  """Leaves the axes a time line at the bottom and nothing else."""
  from matplotlib.ticker import FuncFormatter, MaxNLocator

  axes.patch.set_facecolor('#F7F7F7')
  axes.set_yticks([])
  axes.spines[['top', 'left', 'right']].set_visible(False)
  axes.spines['bottom'].set_color(FAINT)
  axes.tick_params(
    axis='x', labelsize=8, labelcolor='#555555', color=FAINT, length=3, pad=2
  )
  axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 3, 5, 6, 10]))
  axes.xaxis.set_major_formatter(
    FuncFormatter(lambda x, _: f'{x:g} s' if duration else f'{100 * x:g} %')
  )


def _draw_legend(figure: 'Figure', height: float) -> None:
  from matplotlib.legend_handler import HandlerTuple
  from matplotlib.lines import Line2D
  from matplotlib.patches import Patch

  def area(color):
    return Patch(facecolor=color + '48', edgecolor=color)

  def triangle(color):
    return Line2D([], [], linestyle='', marker='v', markersize=8, color=color)

  handles = {
    'clip scores: right video': area(RIGHT),
    'other video': area(OTHER),
    'frame scores': Line2D([], [], color=INK, linewidth=1.1),
    'best moment': (triangle(RIGHT), triangle(OTHER)),
    'moment of the query': Patch(facecolor=MOMENT + '33', edgecolor=MOMENT),
  }
  figure.legend(
    list(handles.values()),
    list(handles),
    handler_map={tuple: HandlerTuple(ndivide=None)},
    loc='upper right',
    bbox_to_anchor=(1 - (_RIGHT_MARGIN - 0.1) / _WIDTH, 1 - 0.1 / height),
    ncols=len(handles),
    frameon=False,
    fontsize=9.5,
    columnspacing=1.6,
    handletextpad=0.6,
  )
