"""Figures independent of pyplot, their files, and text that fits them."""

import os
import textwrap
from typing import TYPE_CHECKING, Any, Literal

from dreamprvr_jax import folders

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

INK = '#222222'
FAINT = '#8A8A8A'


def new_figure(width: float, height: float) -> 'Figure':
  """Returns an empty figure of a size in inches, independent of pyplot."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  from matplotlib.layout_engine import ConstrainedLayoutEngine

  layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
  figure = Figure((width, height), layout=layout, facecolor='white')
  FigureCanvasAgg(figure)
  return figure


def save(figure: 'Figure', path: str | os.PathLike) -> None:
  """Writes a figure as PNG, so that no half-written file is ever seen.

  Args:
    figure: the figure.
    path: the file to write; an older one is replaced, a missing folder made.

  Raises:
    OSError: If the folder cannot be written to.
  """
  with folders.replacing(path) as partial:
    figure.savefig(partial, format='png', dpi=120)


def frame(
  axes: 'Axes',
  title: str,
  x_label: str,
  grid: Literal['x', 'y', 'both'] = 'both',
) -> None:
  """Gives axes their common look: title, label, grid, two borders.

  Args:
    axes: The axes.
    title: Text above them.
    x_label: Text below them.
    grid: 'x', 'y' or 'both': the axes whose ticks have grid lines.
  """
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(FAINT)
  axes.tick_params(colors=INK, labelsize=9)
  axes.set_title(title, loc='left', fontsize=12, fontweight='bold', color=INK)
  axes.set_xlabel(x_label, fontsize=10, color=INK)
  axes.grid(axis=grid, color='#E6E6E6', linewidth=0.8)
  axes.set_axisbelow(True)


def literal(text: str) -> str:
  """Returns text that matplotlib draws as it is, without reading it as TeX."""
  return text.replace('$', r'\$')


def wrap(
  ruler: 'Figure', text: str, width: float, max_lines: int, **look: Any
) -> list[str]:
  """Returns the text in lines that fit; one too long ends in an ellipsis.

  Args:
    ruler: any figure; it stays as it is.
    text: the text; line breaks in it count as spaces.
    width: The width in inches.
    max_lines: the most lines.
    **look: properties of the text in the picture.

  Returns:
    The lines; none for an empty text.
  """
  text = ' '.join(text.split())
  lines = []
  # Letters differ in width, so the number of them that fit is found by trial.
  for count in range(115, 0, -5):
    lines = textwrap.wrap(text, count, max_lines=max_lines, placeholder=' …')
    if all(_measure(ruler, line, **look) <= width for line in lines):
      break
  return lines


def shorten(ruler: 'Figure', name: str, width: float, **look: Any) -> str:
  """Returns the name, without its middle if it is wider than `width` inches."""
  name = ' '.join(name.split())
  short = name
  half = min(len(name) // 2, 40)
  while half and _measure(ruler, short, **look) > width:
    # Both ends stay, as the names of one data set tend to differ there.
    short = f'{name[:half]}…{name[-half:]}'
    half -= 1
  return short


def _measure(ruler: 'Figure', text: str, **look: Any) -> float:
  """Returns the width of a line of text in inches."""
  artist = ruler.text(0, 0, text, parse_math=False, **look)
  width = artist.get_window_extent().width / ruler.dpi
  artist.remove()
  return width
