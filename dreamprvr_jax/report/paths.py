"""A picture of the path of registers from their start to their use."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.report.canvas import (
  FAINT,
  INK,
  frame,
  literal,
  new_figure,
  save,
)
from dreamprvr_jax.report.curves import COLORS

if TYPE_CHECKING:
  from matplotlib.axes import Axes


_LABELS = (
  'start of the registers',
  'registers as used',
  'target: mean caption',
  'target, perturbed',
)
_MARKS: tuple[dict[str, Any], ...] = (
  {'marker': 's', 'markersize': 7, 'markeredgecolor': 'white'},
  {'marker': 'o', 'markersize': 10, 'markeredgecolor': 'white'},
  {'marker': '*', 'markersize': 16, 'markerfacecolor': 'white'},
  {'marker': 'x', 'markersize': 4},
)
# Options of a legend below the axes, where it covers nothing.
_BELOW: dict[str, Any] = {
  'loc': 'upper center',
  'bbox_to_anchor': (0.5, -0.12),
  'frameon': False,
  'fontsize': 9,
  'columnspacing': 1.2,
}


@dataclasses.dataclass(frozen=True, eq=False)
class RegisterPath:
  """The registers of one video through the steps of sampling.

  Attributes:
    video_id: its name.
    states: (t, r, d) the registers before, between and after the steps.
    targets: (k, d) the text targets of training, perturbed.
    target_mean: (d,) the target of the mean caption, not perturbed.
  """

  video_id: str
  states: Float[np.ndarray, 't r d']
  targets: Float[np.ndarray, 'k d']
  target_mean: Float[np.ndarray, ' d']


def plot_paths(paths: Sequence[RegisterPath], file: str | os.PathLike) -> None:
  """Draws how the registers of some videos move into one PNG file.

  On the left, the plane of the first two principal components of all points.
  On the right, cosines by step: of a video's registers to the target of its own
  captions, to those of the other videos, and to each other; thin lines are
  single videos.

  Args:
    paths: at least one, all with as many states.
    file: the file to write; an older one is replaced.

  Raises:
    ValueError: without paths.
  """
  if not paths:
    raise ValueError('no paths to draw; expected at least one')
  figure = new_figure(13.5, 6.4)
  left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
  _draw_plane(left, paths)
  _draw_cosines(right, paths)
  save(figure, file)


def principal_plane(
  points: Float[np.ndarray, 'n d'],
) -> tuple[
  Float[np.ndarray, ' d'], Float[np.ndarray, '2 d'], Float[np.ndarray, ' 2']
]:
  """Returns (mean, axes, shares of the variance) of two components."""
  mean = points.mean(axis=0)
  _, scale, axes = np.linalg.svd(points - mean, full_matrices=False)
  variance = np.square(scale)
  return mean, axes[:2], variance[:2] / max(variance.sum(), 1e-30)


def path_cosines(
  paths: Sequence[RegisterPath],
) -> dict[str, Float[np.ndarray, 'v t']]:
  """Returns the mean cosine of the registers of v videos in each state.

  Entries: 'own', to the video's unperturbed target; 'others', to those of the
  other videos, if there are any; 'each other', if there are several
  registers.
  """
  states = _unit(np.stack([path.states for path in paths]))
  targets = _unit(np.stack([path.target_mean for path in paths]))
  videos, _, registers, _ = states.shape
  to_targets = np.einsum('vtrd,wd->vtw', states, targets) / registers
  own = np.einsum('vtv->vt', to_targets)
  found = {'own': own}
  if videos > 1:
    found['others'] = (to_targets.sum(axis=2) - own) / (videos - 1)
  if registers > 1:
    pairs = np.einsum('vtrd,vtsd->vt', states, states) - registers
    found['each other'] = pairs / (registers * (registers - 1))
  return found


def _unit(x: np.ndarray) -> np.ndarray:
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _color(number: int) -> str:
  return COLORS[number % len(COLORS)]


def _draw_plane(axes: 'Axes', paths: Sequence[RegisterPath]) -> None:
  from matplotlib.lines import Line2D

  flat = [p.states.reshape(-1, p.states.shape[-1]) for p in paths]
  texts = [np.vstack([p.targets, p.target_mean]) for p in paths]
  mean, plane, shares = principal_plane(np.vstack([*flat, *texts]))
  project = lambda points: ((points - mean) @ plane.T).T
  for number, path in enumerate(paths):
    look: dict[str, Any] = {'color': _color(number)}
    for states in np.moveaxis(path.states, 1, 0):
      axes.plot(*project(states), marker='.', linewidth=1.2, **look)
    marked = (path.states[0], path.states[-1], path.target_mean[None])
    for points, mark in zip((*marked, path.targets), _MARKS, strict=True):
      axes.plot(*project(points), linestyle='', **look, **mark)
  _finish(
    axes,
    'Registers on their way',
    f'first principal component ({shares[0]:.0%} of the variance)',
    f'second principal component ({shares[1]:.0%})',
  )

  handles = [
    Line2D([], [], color=FAINT, linestyle='', label=label, **mark)
    for mark, label in zip(_MARKS, _LABELS, strict=True)
  ]
  handles += [
    Line2D([], [], color=_color(number), label=literal(path.video_id))
    for number, path in enumerate(paths)
  ]
  axes.legend(handles=handles, ncols=4, **_BELOW)


def _draw_cosines(axes: 'Axes', paths: Sequence[RegisterPath]) -> None:
  found = path_cosines(paths)
  for number, values in enumerate(found['own']):
    axes.plot(values, color=_color(number), linewidth=0.9, alpha=0.7)
  for name, label, color, style in (
    ('own', 'to the target of their own captions', INK, '-'),
    ('others', "to the targets of other videos' captions", INK, ':'),
    ('each other', 'to each other', FAINT, '--'),
  ):
    if name in found:
      mean = found[name].mean(axis=0)
      axes.plot(mean, color=color, linestyle=style, linewidth=2.4, label=label)
  _finish(axes, 'Cosine of the registers', 'steps of sampling done', '')
  axes.legend(**_BELOW)


def _finish(axes: 'Axes', title: str, x_label: str, y_label: str) -> None:
  from matplotlib.ticker import MaxNLocator

  frame(axes, title, x_label)
  axes.set_ylabel(y_label, fontsize=10, color=INK)
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
