"""A picture of SumR by the value of a setting."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamprvr_jax.report.canvas import (
  FAINT,
  frame,
  literal,
  new_figure,
  save,
)
from dreamprvr_jax.report.curves import COLORS, mark_best

if TYPE_CHECKING:
  from matplotlib.axes import Axes

# Values that are this many times apart are drawn on a logarithmic scale.
_WIDE = 16


def plot_sweep(
  key: str,
  sums: Mapping[Any, Sequence[float]],
  path: str | os.PathLike,
) -> None:
  """Draws SumR against the values of a setting into one PNG file.

  The line joins the means; where there are several seeds, a dot is a seed and
  a bar one sample standard deviation to both sides; a star marks the best
  mean. Values that are numbers have a scale, others stand side by side.

  Args:
    key: Name of the setting.
    sums: {value: SumR of its seeds}, in the order of drawing; at least one
      value, each with at least one seed.
    path: The file to write; an older one is replaced.

  Raises:
    ValueError: Without values.
  """
  if not sums:
    raise ValueError('no values to draw; expected at least one')
  numeric = all(_is_number(value) for value in sums)
  values = sorted(sums) if numeric else [*sums]
  xs = np.asarray(values, float) if numeric else np.arange(len(values))
  columns = [np.asarray(sums[value], float) for value in values]
  figure = new_figure(7.5, 4.8)
  axes: Axes = figure.subplots()
  if max(map(len, columns)) > 1:
    _draw_seeds(axes, xs, columns)
  _draw_means(axes, xs, columns, values)
  if numeric and xs.min() > 0 and xs.max() >= _WIDE * xs.min():
    axes.set_xscale('log')
  _finish(axes, key, xs, [literal(str(value)) for value in values])
  save(figure, path)


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _draw_seeds(
  axes: 'Axes', xs: np.ndarray, columns: Sequence[np.ndarray]
) -> None:
  for number, (x, column) in enumerate(zip(xs, columns, strict=True)):
    axes.plot(
      np.full(len(column), x),
      column,
      linestyle='',
      marker='o',
      markersize=4.5,
      markerfacecolor='none',
      markeredgecolor=FAINT,
      label='' if number else 'one seed',
    )


def _draw_means(
  axes: 'Axes',
  xs: np.ndarray,
  columns: Sequence[np.ndarray],
  values: Sequence[Any],
) -> None:
  means = np.asarray([column.mean() for column in columns])
  spreads = np.asarray(
    [np.std(c, ddof=1) if len(c) > 1 else np.nan for c in columns]
  )
  several = bool(np.isfinite(spreads).any())
  axes.errorbar(
    xs,
    means,
    yerr=spreads if several else None,
    color=COLORS[0],
    linewidth=2,
    marker='o',
    markersize=3.5,
    elinewidth=1.2,
    capsize=4,
    label='mean ± standard deviation' if several else 'SumR',
  )
  best = int(means.argmax())
  mark_best(axes, xs[best], means[best], literal(str(values[best])))


def _finish(
  axes: 'Axes', key: str, xs: np.ndarray, labels: Sequence[str]
) -> None:
  """Adds title, grid, a tick at every value and a legend below."""
  frame(axes, 'SumR', literal(key), grid='y')
  axes.minorticks_off()
  # Long values would run into one another.
  slanted = max(map(len, labels)) > 60 / len(labels)
  axes.set_xticks(xs, labels)
  if slanted:
    axes.tick_params(axis='x', rotation=20)
  axes.margins(x=0.08, y=0.15)
  axes.legend(
    loc='upper center',
    bbox_to_anchor=(0.5, -0.16 if not slanted else -0.3),
    ncols=3,
    frameon=False,
    fontsize=9,
    columnspacing=1.2,
    handlelength=1.6,
  )
