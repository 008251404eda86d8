"""A picture of the attention from registers and to registers."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.report import canvas
from dreamprvr_jax.report.canvas import FAINT, INK, new_figure, save
from dreamprvr_jax.report.timelines import MOMENT

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.colors import Normalize
  from matplotlib.figure import Figure

# Purple against orange, which colour-blind readers can tell apart.
_COLORS = 'PuOr_r'
# Deviations below this are drawn pale: there is little to see in them.
_LEAST_LIMIT = 0.05

# Inches. Text on the left has a fixed width, so that all timelines align.
_WIDTH = 12.8
_LEFT = 4.0
_RIGHT_MARGIN = 0.35
_TOP = 0.7
_TITLE = 0.42
_STRIP = 0.21
_ROW = 0.15
_GAP = 0.12
_TIMES = 0.62

_CAPTION = {'fontsize': 9.0, 'color': INK}


@dataclasses.dataclass(frozen=True, eq=False)
class VideoAttention:
  """Attention in one video; weights are shares of one token's attention.

  Attributes:
    video_id: its name.
    duration: its length in seconds; None if unknown.
    captions: sentences.
    moments: (n, 2) the moments that they describe, start and end as fractions
      of the video; NaN if unknown.
    registers: (r, c) from each register's query to each clip.
    clips: (a, c) from each clip to all registers, by parallel block.
    frames: (a, f) from each real frame to all registers.
  """

  video_id: str
  duration: float | None
  captions: Sequence[str]
  moments: Float[np.ndarray, 'n 2']
  registers: Float[np.ndarray, 'r c']
  clips: Float[np.ndarray, 'a c']
  frames: Float[np.ndarray, 'a f']


@dataclasses.dataclass(frozen=True, eq=False)
class _Map:
  """A heat map: its name, the names of its rows, its cells."""

  title: str
  rows: Sequence[str]
  cells: np.ndarray


def plot_attention(
  videos: Sequence[VideoAttention],
  block_widths: Sequence[float],
  path: str | os.PathLike,
) -> None:
  """Draws the attention from and to registers along some videos into a PNG.

  For each video the moments of its captions and, on the same time axis, three
  heat maps: register queries to clips, clips to registers, frames to
  registers. Colours say by how much a weight differs from an even share.

  Args:
    videos: at least one.
    block_widths: Gaussian width of each parallel block; 0 for no window.
    path: the file to write; an older one is replaced.

  Raises:
    ValueError: without videos.
  """
  if not videos:
    raise ValueError('no videos to draw; expected at least one')
  maps = [_maps(video, block_widths) for video in videos]
  heights = [
    _TITLE
    + _STRIP * len(_known(video))
    + sum(_GAP + _ROW * len(part.rows) for part in parts)
    + _TIMES
    for video, parts in zip(videos, maps, strict=True)
  ]
  figure = new_figure(_WIDTH, _TOP + sum(heights))
  # Everything is placed in inches here: all time axes must align.
  figure.set_layout_engine('none')
  norm = _norm([part.cells for parts in maps for part in parts])
  _draw_key(figure, norm)
  top = _TOP
  for video, parts, height in zip(videos, maps, heights, strict=True):
    _draw_video(figure, video, parts, norm, top)
    top += height
  save(figure, path)


def _maps(video: VideoAttention, block_widths: Sequence[float]) -> list[_Map]:
  """Returns the heat maps of a video: weight / even share - 1."""
  count, clips = video.registers.shape
  blocks = [f'window {w:g}' if w else 'no window' for w in block_widths]
  # A token attends its video's tokens and all registers.
  against = lambda given: given * (given.shape[1] + count) / count - 1
  return [
    _Map(
      'registers look at clips',
      [f'register {i + 1}' for i in range(count)],
      video.registers * clips - 1,
    ),
    _Map('clips look at registers', blocks, against(video.clips)),
    _Map('frames look at registers', blocks, against(video.frames)),
  ]


def _known(video: VideoAttention) -> list[int]:
  """Returns the captions whose moments are known."""
  return np.flatnonzero(np.isfinite(video.moments).all(axis=1)).tolist()


def _norm(cells: Sequence[np.ndarray]) -> 'Normalize':
  """Returns the scale that all maps share, as far below 0 as above."""
  from matplotlib.colors import Normalize

  sizes = np.abs(np.concatenate([values.ravel() for values in cells]))
  # One extreme cell must not make all others pale.
  limit = max(float(np.quantile(sizes, 0.995)), _LEAST_LIMIT)
  return Normalize(-limit, limit)


def _add_axes(figure: 'Figure', top: float, height: float) -> 'Axes':
  """Returns axes of the timelines' width, at inches from the upper edge."""
  total = figure.get_figheight()
  return figure.add_axes(
    (
      _LEFT / _WIDTH,
      1 - (top + height) / total,
      1 - (_LEFT + _RIGHT_MARGIN) / _WIDTH,
      height / total,
    )
  )


def _draw_video(
  figure: 'Figure',
  video: VideoAttention,
  maps: Sequence[_Map],
  norm: 'Normalize',
  top: float,
) -> None:
  length = video.duration or 1.0
  known = _known(video)
  spans = np.clip(video.moments[known], 0, 1) * length
  look = {'fontsize': 12, 'fontweight': 'bold', 'color': INK}
  figure.text(
    0.25 / _WIDTH,
    1 - (top + 0.2) / figure.get_figheight(),
    canvas.shorten(figure, video.video_id, _WIDTH - 1, **look),
    va='center',
    parse_math=False,
    **look,
  )
  top += _TITLE
  if known:
    axes = _add_axes(figure, top, _STRIP * len(known))
    axes.set_xlim(0, length)
    _draw_moments(axes, [video.captions[i] for i in known], spans)
    top += _STRIP * len(known)
  for part in maps:
    top += _GAP
    axes = _add_axes(figure, top, _ROW * len(part.rows))
    _draw_map(axes, part, length, norm)
    for border in np.unique(spans):
      axes.axvline(border, color=MOMENT, linewidth=1, alpha=0.8)
    axes.set_xticks([])
    top += _ROW * len(part.rows)
  # The lowest one has the time line of all.
  axes = _add_axes(figure, top, 0.02)
  axes.set_xlim(0, length)
  axes.set_yticks([])
  axes.spines[:].set_visible(False)
  axes.tick_params(labelsize=8, labelcolor='#555555', color=FAINT, pad=2)
  axes.set_xlabel(
    'seconds' if video.duration else 'share of the video',
    fontsize=8,
    color='#555555',
    labelpad=1,
  )


def _draw_moments(
  axes: 'Axes', captions: Sequence[str], spans: np.ndarray
) -> None:
  figure = axes.figure.figure
  for row, (caption, (start, end)) in enumerate(
    zip(captions, spans, strict=True)
  ):
    axes.barh(row, end - start, 0.6, start, color=MOMENT)
    lines = canvas.wrap(figure, caption, _LEFT - 0.5, 1, **_CAPTION)
    axes.annotate(
      ''.join(lines),
      (0, row),
      (-8, 0),
      xycoords=axes.get_yaxis_transform(),
      textcoords='offset points',
      ha='right',
      va='center',
      parse_math=False,
      **_CAPTION,
    )
  axes.set_ylim(len(captions) - 0.5, -0.5)
  axes.set(xticks=[], yticks=[])
  axes.patch.set_facecolor('#F2F2F2')
  axes.spines[:].set_visible(False)


def _draw_map(
  axes: 'Axes', part: _Map, length: float, norm: 'Normalize'
) -> None:
  borders = np.linspace(0, length, part.cells.shape[1] + 1)
  rows = np.arange(len(part.rows) + 1)
  axes.pcolormesh(borders, rows, part.cells, cmap=_COLORS, norm=norm)
  axes.set_xlim(0, length)
  axes.set_ylim(len(part.rows), 0)
  axes.set_yticks(rows[:-1] + 0.5, part.rows, fontsize=7.5, color=INK)
  axes.tick_params(axis='y', length=0, pad=5)
  axes.spines[:].set_visible(False)
  axes.text(
    (0.25 - _LEFT) / (_WIDTH - _LEFT - _RIGHT_MARGIN),
    0.5,
    part.title,
    transform=axes.transAxes,
    va='center',
    fontsize=10,
    color=INK,
  )


def _draw_key(figure: 'Figure', norm: 'Normalize') -> None:
  """Draws the colour scale and the legend of green, above everything."""
  from matplotlib.cm import ScalarMappable
  from matplotlib.patches import Patch
  from matplotlib.ticker import FuncFormatter

  total = figure.get_figheight()
  middle = 1 - 0.3 / total
  width, height = 3.2 / _WIDTH, 0.14 / total
  bar = figure.colorbar(
    ScalarMappable(norm, _COLORS),
    cax=figure.add_axes((_LEFT / _WIDTH, middle - height / 2, width, height)),
    orientation='horizontal',
    ticks=[norm.vmin, 0, norm.vmax],
    format=FuncFormatter(lambda x, _: f'{100 * x:+.0f} %' if x else 'even'),
  )
  bar.outline.set_visible(False)
  bar.ax.tick_params(labelsize=8.5, labelcolor=INK, length=2, pad=2)
  figure.text(
    (_LEFT - 0.3) / _WIDTH,
    middle,
    'attention against an even share',
    ha='right',
    va='center',
    fontsize=9.5,
    color=INK,
  )
  figure.legend(
    [Patch(color=MOMENT)],
    ['moment of a caption'],
    loc='center right',
    bbox_to_anchor=(1 - _RIGHT_MARGIN / _WIDTH, middle),
    frameon=False,
    fontsize=9.5,
    borderaxespad=0,
    borderpad=0,
  )
