"""The results of `search.py` as a table and as a picture.

python benchmarks/search_report.py FILE.jsonl          prints the table
python benchmarks/search_report.py FILE.jsonl --plot=PICTURE.png
python benchmarks/search_report.py --write    puts the results of the
repository, benchmarks/results/search/rows.jsonl, into docs/benchmarks.md
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / 'docs' / 'benchmarks.md'
RESULTS = ROOT / 'benchmarks' / 'results' / 'search' / 'rows.jsonl'
START, END = '<!-- results: search_report.py -->', '<!-- end of search -->'
_HEADER = (
  *('way to search', 'recall@10', 'p50', 'p99', 'alone', 'p50 of 64'),
  *('p99 of 64', 'memory', 'disk', 'build', 'bandwidth'),
)
# Milliseconds that are written without a tenth, from here on.
_WHOLE = 100
_COLOURS, _PALETTE = 20, 'tab20'
_INCHES = 3.6

Lines = Sequence[dict[str, Any]]


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the lines of a file of results."""
  return [json.loads(line) for line in path.read_text().splitlines()]


def label(line: dict[str, Any]) -> str:
  """Returns the name of a line's row, with the lists that are looked into, and
  after a plus the videos whose scores are then computed exactly."""
  found = line['row']
  if 'recall' in line:
    found += f' for {line["recall"]:g}'
  if 'probes' in line:
    found += f', {line["probes"]}'
  if 'rescored' in line:
    found += f' + {line["rescored"]}'
  return found


def table(lines: Lines) -> str:
  """Returns a table in Markdown for each archive.

  The recalls are those of the kinds of queries, in the order that the heading
  names. Times are milliseconds of the kind that takes longest. `alone` is the
  median of another program's search for tokens, without the videos that they
  are of. `memory` and `disk` are bytes of a video, `build` seconds, `bandwidth`
  a share of that of the memory.
  """
  text = []
  for archive in _archives(lines):
    here = [line for line in lines if line['archive'] == archive]
    kinds = next((list(x['kinds']) for x in here if 'kinds' in x), [])
    text += [
      f'**{archive}**; recall of {", ".join(kinds)} queries:',
      '',
      _row(_HEADER),
      '|' + '---|' * len(_HEADER),
    ]
    text += [_row(_cells(line)) for line in here if 'kinds' in line]
    left = [line for line in here if 'kinds' not in line]
    text += ['', *(f'Left out: {x["row"]}: {x["left_out"]}.' for x in left)]
    text += [''] if left else []
  return '\n'.join(text).rstrip('\n')


def _archives(lines: Lines) -> list[str]:
  return list(dict.fromkeys(line['archive'] for line in lines))


def _row(cells: Sequence[str]) -> str:
  return f'| {" | ".join(cells)} |'


def _cells(line: dict[str, Any]) -> list[str]:
  kinds = line['kinds'].values()
  slowest = lambda batch, what: _short(max(k[batch][what] for k in kinds))
  shares = [k['share_of_bandwidth'] for k in kinds if 'share_of_bandwidth' in k]
  recalls = (f'{k["recall_at_10"]:.3f}'.lstrip('0') for k in kinds)
  whole = lambda name: f'{line[name]:,}' if name in line else ''
  return [
    label(line),
    ' '.join(recalls),
    slowest('batch_1', 'p50_ms'),
    slowest('batch_1', 'p99_ms'),
    slowest('alone', 'p50_ms') if all('alone' in k for k in kinds) else '',
    slowest('batch_64', 'p50_ms'),
    slowest('batch_64', 'p99_ms'),
    whole('memory_bytes'),
    whole('disk_bytes'),
    f'{line["build_seconds"]:,.0f}',
    f'{max(shares):.2f}' if shares else '',
  ]


def _short(value: float) -> str:
  return f'{value:,.1f}' if value < _WHOLE else f'{value:,.0f}'


def plot(lines: Lines, path: pathlib.Path) -> None:
  """Draws recall against the median time of one query, a picture for each
  archive and kind of queries."""
  import matplotlib

  matplotlib.use('Agg')
  import matplotlib.pyplot as plt

  measured = [line for line in lines if 'kinds' in line]
  archives = _archives(measured)
  panels = [
    (archive, kind)
    for archive in archives
    for kind in next(x['kinds'] for x in measured if x['archive'] == archive)
  ]
  names = list(dict.fromkeys(line['row'] for line in measured))
  columns = min(len(panels), 3)
  figure, axes = plt.subplots(
    -(-len(panels) // columns),
    columns,
    figsize=(_INCHES * columns + 1.6, _INCHES * -(-len(panels) // columns)),
    squeeze=False,
    layout='constrained',
  )
  for axis in axes.flat[len(panels) :]:
    axis.set_axis_off()
  for axis, (archive, kind) in zip(axes.flat, panels, strict=False):
    for number, name in enumerate(names):
      for rescored in (False, True):
        points = sorted(
          (
            line['kinds'][kind]['batch_1']['p50_ms'],
            line['kinds'][kind]['recall_at_10'],
          )
          for line in measured
          if (line['archive'], line['row']) == (archive, name)
          and ('rescored' in line) == rescored
        )
        if points:
          axis.plot(
            *zip(*points, strict=True),
            color=plt.colormaps[_PALETTE](number % _COLOURS),
            marker='o' if rescored else 'x',
            linestyle='-' if rescored else ':',
            label=f'{name}, rescored' if rescored else name,
          )
    axis.set_xscale('log')
    axis.set_title(f'{archive}\n{kind} queries', fontsize='small')
    axis.set_xlabel('median of one query, ms')
    axis.set_ylabel('recall@10')
    axis.grid(alpha=0.3)
  found = {}
  for axis in axes.flat:
    for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
      found.setdefault(name, handle)
  figure.legend(
    found.values(), found.keys(), loc='outside right center', fontsize='small'
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=120)
  plt.close(figure)


def with_table(text: str) -> str:
  """Returns the docs with the current table."""
  before, _, rest = text.partition(START)
  found = table(read(RESULTS)) if RESULTS.exists() else ''
  return f'{before}{START}\n{found}\n{END}{rest.partition(END)[2]}'


def main() -> None:
  """Prints, draws or writes results."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('file', nargs='?', type=pathlib.Path, default=RESULTS)
  parser.add_argument('--plot', type=pathlib.Path)
  parser.add_argument('--write', action='store_true')
  options = parser.parse_args()
  if options.write:
    DOCS.write_text(with_table(DOCS.read_text()))
  else:
    print(table(read(options.file)))
  if options.plot:
    plot(read(options.file), options.plot)


if __name__ == '__main__':
  sys.exit(main())
