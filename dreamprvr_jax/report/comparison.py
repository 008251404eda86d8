"""A comparison of methods as Markdown, LaTeX and CSV.

All take the same dict, which is the content of `table.json`:
  title, tasks: What was run; the splits and their sizes, one line each.
  rows: One for each method: method, seeds (list), metrics {name: {mean, std,
    values}}, parameters, seconds_per_step, devices, published {name: value};
    unknown values are None.
  chance: {name: value} of a random order.
  unfinished: Names of the runs that have not ended.
  differences: {'neighbours': [{method, other, SumR, standard_error}]}.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any

METRICS = ('R@1', 'R@5', 'R@10', 'R@100', 'SumR')

_MEASURED = (
  'Recall in percent: mean and, behind the sign, sample standard deviation '
  'over the seeds.'
)
_PUBLISHED = (
  'published for the full-size model on the real features; it does not apply '
  'to a model of another size or to other features.'
)
_TIME = (
  'median seconds of a training step by the metric log; the steps that '
  'compile are left out.'
)


def markdown(table: Mapping[str, Any]) -> str:
  """Returns the comparison as a page in Markdown."""
  published = _any_published(table)
  heads = ['method', 'seeds', *METRICS]
  heads += ['published SumR [1]'] * published
  heads += ['parameters', 's/step [2]']
  lines = [f'# {table["title"]}', '', *table['tasks'], '', _MEASURED, '']
  lines += [_pipes(heads), _pipes(['---'] * len(heads))]
  lines += [_pipes(cells) for cells in _rows(table, ' ± ', published)]
  lines += ['', *(f'- {sentence}' for sentence in sentences(table))]
  if table['unfinished']:
    lines += ['', f'Not finished yet: {"; ".join(table["unfinished"])}.']
  lines += [''] + [f'[1] {_PUBLISHED}'] * published
  lines += [''] * published + [f'[2] {_TIME}{_devices(table)}']
  return '\n'.join(lines) + '\n'


def latex(table: Mapping[str, Any]) -> str:
  """Returns the comparison as a tabular that needs no package."""
  published = _any_published(table)
  heads = ['method', 'seeds', *METRICS]
  heads += ['published SumR$^1$'] * published
  heads += ['parameters', 's/step$^2$']
  lines = [f'% {line}' for line in (table['title'], *table['tasks'], _MEASURED)]
  lines += [rf'\begin{{tabular}}{{l{"r" * (len(heads) - 1)}}}', r'\hline']
  lines += [' & '.join(heads) + r' \\', r'\hline']
  for method, *cells in _rows(table, r' $\pm$ ', published):
    lines.append(' & '.join([_escaped(method), *cells]) + r' \\')
  lines += [r'\hline', r'\end{tabular}']
  lines += [f'% 1: {_PUBLISHED}'] * published
  lines += [f'% 2: {_TIME}{_devices(table)}']
  return '\n'.join(lines) + '\n'


def comma_separated(table: Mapping[str, Any]) -> str:
  """Returns the rows of the methods as CSV; unknown cells are empty."""
  file = io.StringIO()
  writer = csv.writer(file, lineterminator='\n')
  heads = [f'{name} {what}' for name in METRICS for what in ('mean', 'std')]
  writer.writerow(
    ['method', 'seeds', *heads]
    + [f'published {name}' for name in METRICS]
    + ['parameters', 'seconds_per_step']
  )
  for row in table['rows']:
    cells = [row['metrics'][m][w] for m in METRICS for w in ('mean', 'std')]
    published = row['published'] or {}
    cells += [published.get(name) for name in METRICS]
    cells += [row['parameters'], row['seconds_per_step']]
    writer.writerow([row['method'], len(row['seeds']), *cells])
  writer.writerow(
    ['chance', '']
    + [cell for name in METRICS for cell in (table['chance'][name], '')]
    + [''] * (len(METRICS) + 2)
  )
  return file.getvalue()


def sentences(table: Mapping[str, Any]) -> list[str]:
  """Returns a sentence for each pair of neighbours by mean SumR."""
  found = []
  for pair in table['differences']['neighbours']:
    text = f'{pair["method"]} is {pair["SumR"]:.1f} SumR above {pair["other"]}'
    error = pair['standard_error']
    if error is None:
      found.append(
        f'{text}; a single seed has no known spread, so this may be chance.'
      )
      continue
    if error == 0:
      found.append(f'{text}; neither varies.')
      continue
    exceeds = pair['SumR'] > 2 * error
    found.append(
      f'{text}: {"more" if exceeds else "not more"} than twice the standard '
      f'error of the difference, {error:.1f}'
      f'{"." if exceeds else "; these runs do not tell them apart."}'
    )
  return found


def _rows(
  table: Mapping[str, Any], sign: str, published: bool
) -> list[list[str]]:
  """Returns the cells of each row, chance first."""
  blank = '–'
  chance = [f'{table["chance"][name]:.1f}' for name in METRICS]
  found = [['chance', '', *chance, *[''] * published, '', '']]
  for row in table['rows']:
    cells = [row['method'], str(len(row['seeds']))]
    for name in METRICS:
      mean, std = row['metrics'][name]['mean'], row['metrics'][name]['std']
      spread = '' if std is None else f'{sign}{std:.1f}'
      cells.append(f'{mean:.1f}{spread}')
    if published:
      theirs = row['published']
      cells.append(f'{theirs["SumR"]:.1f}' if theirs else blank)
    seconds = row['seconds_per_step']
    cells.append(f'{row["parameters"]:,}')
    cells.append(blank if seconds is None else f'{seconds:.3g}')
    found.append(cells)
  return found


def _any_published(table: Mapping[str, Any]) -> bool:
  return any(row['published'] for row in table['rows'])


def _devices(table: Mapping[str, Any]) -> str:
  names = sorted({name for row in table['rows'] for name in row['devices']})
  return f' On {", ".join(names)}.' if names else ''


def _pipes(cells: list[str]) -> str:
  return f'| {" | ".join(cells)} |'


def _escaped(text: str) -> str:
  """Returns text that LaTeX prints as it is; methods have no backslash."""
  return ''.join(f'\\{c}' if c in '_%&#${}' else c for c in text)
