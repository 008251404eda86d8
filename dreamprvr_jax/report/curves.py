"""A picture of a training run: losses, recalls and SumR."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dreamprvr_jax.report.canvas import (
  FAINT,
  INK,
  frame,
  literal,
  new_figure,
  save,
)

if TYPE_CHECKING:
  from matplotlib.axes import Axes

RECALLS = ('R@1', 'R@5', 'R@10', 'R@100')

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLORS = (
  '#0072B2',
  '#E69F00',
  '#009E73',
  '#D55E00',
  '#CC79A7',
  '#56B4E9',
  '#8C6D1F',
  '#7A5BD0',
)


def plot_training(
  rows: Iterable[Mapping[str, Any]],
  path: str | os.PathLike,
  *,
  chance: float | None = None,
) -> None:
  """Draws the metric log of a run into one PNG file.

  From left to right: the total loss and its terms by step, the recalls by
  epoch, SumR by epoch with the best one marked. Missing keys and numbers
  that are not finite leave gaps.

  Args:
    rows: the rows of a metrics file in the order of writing. Those of kind
      'train' have 'step' and 'loss/<name>'; those of kind 'eval' have
      'epoch', and any of 'R@1', 'R@5', 'R@10', 'R@100', 'SumR' in percent
      (points). If there are several splits, 'val' is drawn, or else the one
      that comes first.
    path: the file to write; an older one is replaced.
    chance: SumR of a random ranking, drawn as a dashed line.
  """
  rows = list(rows)
  train = [row for row in rows if row.get('kind') == 'train']
  evals = _one_split([row for row in rows if row.get('kind') == 'eval'])

  figure = new_figure(14, 4.8)
  left, middle, right = figure.subplots(1, 3)
  _draw_losses(left, train)
  _draw_recalls(middle, evals)
  _draw_sum(right, evals, chance)
  save(figure, path)


def _one_split(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  splits = [row.get('split') for row in rows]
  if not splits:
    return []
  split = 'val' if 'val' in splits else splits[0]
  return [row for row in rows if row.get('split') == split]


def _series(
  rows: Sequence[Mapping[str, Any]], x: str, y: str
) -> tuple[list[float], list[float]]:
  """Returns the points of a curve; a y that is not finite is a NaN, a gap."""
  points = {}  # A resumed run may log a step twice: the later one counts.
  for row in rows:
    if _finite(row.get(x)) and y in row:
      value = row[y]
      points[float(row[x])] = float(value) if _finite(value) else math.nan
  return sorted(points), [points[key] for key in sorted(points)]


def _finite(value: Any) -> bool:
  return isinstance(value, (int, float)) and math.isfinite(value)


def _draw_curve(
  axes: 'Axes', xs: list[float], ys: list[float], **kwargs: Any
) -> None:
  # A curve of few points is hard to see without its points.
  marker = 'o' if len(xs) <= 40 else ''
  axes.plot(xs, ys, marker=marker, markersize=3.5, **kwargs)


def _draw_losses(axes: 'Axes', rows: list[Mapping[str, Any]]) -> None:
  names = {key for row in rows for key in row if key.startswith('loss/')}
  # The total first: it is drawn in ink, and the terms take the colours.
  names = sorted(names, key=lambda name: (name != 'loss/total', name))
  curves = {name: _series(rows, 'step', name) for name in names}
  curves = {
    name: (xs, ys)
    for name, (xs, ys) in curves.items()
    if not all(map(math.isnan, ys))
  }
  terms = [name for name in curves if name != 'loss/total']
  for name, (xs, ys) in curves.items():
    if name == 'loss/total':
      look = {'color': INK, 'linewidth': 2.2, 'zorder': 3}
    else:
      index = terms.index(name)
      # Past the last colour they start again, with another line style.
      dash = ('-', '--', ':', '-.')[index // len(COLORS) % 4]
      color = COLORS[index % len(COLORS)]
      look = {'color': color, 'linewidth': 1.3, 'linestyle': dash}
    label = literal(name.removeprefix('loss/'))
    _draw_curve(axes, xs, ys, label=label, **look)
  values = [y for _, ys in curves.values() for y in ys if not math.isnan(y)]
  if values and min(values) > 0:
    axes.set_yscale('log')
  _finish(axes, 'Training loss', 'step', bool(curves))


def _draw_recalls(axes: 'Axes', rows: list[Mapping[str, Any]]) -> None:
  drawn = False
  for name, color in zip(RECALLS, COLORS, strict=False):
    xs, ys = _series(rows, 'epoch', name)
    if not all(map(math.isnan, ys)):
      _draw_curve(axes, xs, ys, color=color, linewidth=1.8, label=name)
      drawn = True
  _finish(axes, 'Recall (%)', 'epoch', drawn)
  if drawn:
    axes.set_ylim(bottom=0)


def _draw_sum(
  axes: 'Axes', rows: list[Mapping[str, Any]], chance: float | None
) -> None:
  xs, ys = _series(rows, 'epoch', 'SumR')
  finite = [(y, x) for x, y in zip(xs, ys, strict=True) if not math.isnan(y)]
  if finite:
    _draw_curve(axes, xs, ys, color=COLORS[0], linewidth=2, label='SumR')
    # The first of equals, as a run that keeps its best would have it.
    value, epoch = max(finite, key=lambda point: (point[0], -point[1]))
    mark_best(axes, epoch, value, f'epoch {epoch:g}')
  if chance is not None:
    label = f'chance: {chance:.1f}'
    axes.axhline(chance, color=FAINT, linestyle='--', label=label)
  _finish(axes, 'SumR', 'epoch', bool(finite))
  if finite:
    axes.margins(y=0.12)
    axes.set_ylim(bottom=max(0, axes.get_ylim()[0]))


def mark_best(axes: 'Axes', x: float, y: float, where: str) -> None:
  """Draws a star at the best value of a curve.

  Args:
    axes: Axes with the curve.
    x: Its place.
    y: The value.
    where: The place in words, for the legend.
  """
  axes.plot(
    [x],
    [y],
    linestyle='',
    marker='*',
    markersize=15,
    markerfacecolor=COLORS[3],
    markeredgecolor='white',
    zorder=4,
    label=f'best: {y:.1f} ({where})',
  )


def _finish(axes: 'Axes', title: str, x_label: str, has_curves: bool) -> None:
  """Adds title, grid and a legend below, where it covers no curve."""
  from matplotlib.ticker import MaxNLocator

  frame(axes, title, x_label, grid='y')
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
  low, high = axes.dataLim.intervalx
  if has_curves and low == high:
    axes.set_xlim(low - 1, high + 1)
  handles, _ = axes.get_legend_handles_labels()
  if not has_curves:
    axes.set(xticks=[], yticks=[])
    axes.text(
      *(0.5, 0.5),
      'nothing logged',
      transform=axes.transAxes,
      ha='center',
      va='center',
      color=FAINT,
    )
  if handles:
    axes.legend(
      loc='upper center',
      bbox_to_anchor=(0.5, -0.16),
      ncols=4 if len(handles) > 3 else len(handles),
      frameon=False,
      fontsize=9,
      columnspacing=1.2,
      handlelength=1.6,
    )
