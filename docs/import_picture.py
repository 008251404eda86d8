"""Draws who imports whom, from the imports themselves.

python docs/import_picture.py

writes docs/import_structure.svg. An arrow leads from the importing box to the
imported one; arrows that follow from others are left out.
"""

import ast
import itertools
import pathlib
from collections.abc import Iterator, Mapping

import matplotlib
from matplotlib import patches
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

ROOT = pathlib.Path(__file__).parents[1]
PICTURE = ROOT / 'docs' / 'import_structure.svg'
PACKAGES = ('main', 'configs', 'data_pipeline', 'dreamprvr_jax')
# Every folder may import them: they need the standard library alone.
SMALL = ('errors', 'folders', 'host_memory', 'text')
# Mathematics on the host, which the data pipeline imports, too.
HOST = 'training_free'
# The files of dreamprvr_jax beside its folders, drawn as one box.
FILES = 'single files'
# Places of the boxes from left to right, so that no arrow crosses one. A box
# that is not listed is put at the right end.
COLUMNS = {
  'main': 2.2,
  'dreamprvr_jax': 2.2,
  'configs': 1.0,
  'data_pipeline': 3.4,
  'cli': 2.4,
  'archive': 1.75,
  'interop': 0.4,
  'trained': 0.9,
  'rerank': 2.6,
  'objectives': 3.7,
  'models': 4.5,
  'diffusion': 4.8,
  'train': 2.7,
  'checkpoints': 1.4,
  'evaluation': 2.4,
  'layers': 4.8,
  'devices': 2.0,
  FILES: 1.6,
  'metrics': 2.8,
  'losses': 3.9,
  'report': 3.2,
  'jobs': 1.4,
  'extraction': 1.0,
  'encoders': 0.4,
  'videos': 2.2,
  'serving': 3.2,
  'search': 3.2,
  'index': 3.2,
}

Graph = dict[str, set[str]]


def imported(path: pathlib.Path) -> Iterator[str]:
  """Yields the dotted names that a file imports, inside functions too."""
  for node in ast.walk(ast.parse(path.read_text('utf-8'))):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def is_small(name: str) -> bool:
  """Whether a dotted name is, or is inside, one of the small files."""
  package, _, rest = name.partition('.')
  return package == 'dreamprvr_jax' and rest.partition('.')[0] in SMALL


def package_graph() -> Graph:
  """Returns which packages each package imports."""
  graph: Graph = {}
  for package in PACKAGES:
    place = ROOT / package
    files = place.rglob('*.py') if place.is_dir() else [ROOT / 'main.py']
    names = itertools.chain.from_iterable(map(imported, files))
    found = {
      name.partition('.')[0]
      for name in names
      if not is_small(name) and not name.startswith(f'dreamprvr_jax.{HOST}')
    }
    graph[package] = found & set(PACKAGES) - {package}
  return graph


def folder_graph(name: str = 'dreamprvr_jax') -> Graph:
  """Returns which folders of a package each of its folders imports."""
  package = ROOT / name.replace('.', '/')
  folders = {path.parent.name for path in package.glob('*/__init__.py')}
  graph: Graph = {folder: set() for folder in sorted(folders)}
  for path in package.rglob('*.py'):
    parts = path.relative_to(package).parts
    folder = parts[0] if len(parts) > 1 else FILES
    # The package itself imports what it hands on.
    if path == package / '__init__.py':
      continue
    others = graph.setdefault(folder, set())
    for imported_name in imported(path):
      if imported_name.startswith(f'{name}.'):
        other = imported_name.removeprefix(f'{name}.').partition('.')[0]
        # A value of the package, such as its version.
        if other in folders or (package / f'{other}.py').exists():
          others.add(other if other in folders else FILES)
  return {folder: others - {folder} for folder, others in graph.items()}


def graphs() -> tuple[Graph, Graph, Graph]:
  """Returns the three graphs: packages, folders, folders of the archive."""
  archive = folder_graph('dreamprvr_jax.archive')
  return package_graph(), folder_graph(), archive


def levels(graph: Mapping[str, set[str]]) -> dict[str, int]:
  """Returns the length of the longest chain of imports from each node.

  Raises:
    ValueError: If nodes import each other in a circle.
  """
  found: dict[str, int] = {}
  while len(found) < len(graph):
    ready = [n for n in graph if n not in found and graph[n] <= set(found)]
    if not ready:
      raise ValueError(
        f'imports in a circle: {sorted(set(graph) - set(found))}'
      )
    for node in ready:
      found[node] = 1 + max((found[n] for n in graph[node]), default=-1)
  return found


def reduced(graph: Mapping[str, set[str]]) -> Graph:
  """Returns the graph without edges that follow from others."""
  reach: Graph = {}
  for node in sorted(graph, key=levels(graph).__getitem__):
    reach[node] = graph[node].union(*(reach[n] for n in graph[node]))
  return {
    node: {
      other
      for other in others
      if not any(other in reach[between] for between in others - {other})
    }
    for node, others in graph.items()
  }


def edge_name(node: str, other: str) -> str:
  """Returns the name of an arrow in the picture."""
  return f'{node} imports {other}'.replace(' ', '_')


def edge_names(graph: Mapping[str, set[str]]) -> set[str]:
  """Returns the names that arrows have in the picture."""
  return {
    edge_name(node, other)
    for node, others in reduced(graph).items()
    for other in others
  }


def draw_boxes(
  axes: Axes, graph: Mapping[str, set[str]], title: str
) -> dict[str, Text]:
  """Draws boxes in rows, with those that import nothing at the bottom; returns
  the boxes by name."""
  level = levels(graph)
  free = itertools.count(max(COLUMNS.values()) + 1)
  boxes = {}
  for node in graph:
    x = COLUMNS[node] if node in COLUMNS else next(free)
    style = {'boxstyle': 'round,pad=0.4', 'fc': '#e3efff', 'ec': '#31598f'}
    boxes[node] = axes.text(
      x, level[node], node, ha='center', va='center', bbox=style, zorder=2
    )
  axes.set_xlim(0, max(COLUMNS.values()) + 0.6)
  axes.set_ylim(-0.5, max(level.values()) + 0.5)
  axes.set_title(title)
  axes.axis('off')
  return boxes


def draw_arrows(
  axes: Axes, graph: Mapping[str, set[str]], boxes: Mapping[str, Text]
) -> None:
  """Draws an arrow for each edge that does not follow from others."""
  for node, others in sorted(reduced(graph).items()):
    for other in sorted(others):
      arrow = patches.FancyArrowPatch(
        boxes[node].get_position(),
        boxes[other].get_position(),
        arrowstyle='-|>',
        mutation_scale=10,
        patchA=boxes[node].get_bbox_patch(),
        patchB=boxes[other].get_bbox_patch(),
        shrinkA=0,
        shrinkB=2,
        color='#7a869a',
        zorder=1,
      )
      arrow.set_gid(edge_name(node, other))
      axes.add_patch(arrow)


def main() -> None:
  """Writes the picture."""
  # Text stays text, and the same imports give the same file.
  style = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'imports',
    'font.family': 'sans-serif',
    'font.size': 9,
  }
  with matplotlib.rc_context(style):
    figure = Figure(figsize=(10, 12), layout='constrained')
    parts = zip(
      figure.subplots(3, 1, height_ratios=(3, 8, 4)),
      graphs(),
      ('packages', 'inside dreamprvr_jax', 'inside dreamprvr_jax/archive'),
      strict=True,
    )
    drawn = [
      (axes, graph, draw_boxes(axes, graph, title))
      for axes, graph, title in parts
    ]
    # Boxes have no sizes before they are drawn.
    figure.draw_without_rendering()
    for part in drawn:
      draw_arrows(*part)
    figure.savefig(PICTURE, metadata={'Date': None, 'Creator': None})
  print(PICTURE)


if __name__ == '__main__':
  main()
