"""Writes the results in benchmarks/results/ as the list of the docs.

python benchmarks/table.py          prints it
python benchmarks/table.py --write  puts it into docs/benchmarks.md

A result is the JSON line that a benchmark printed:
python benchmarks/train_step.py ... >> benchmarks/results/NAME.jsonl
"""

import argparse
import json
import pathlib
import textwrap
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / 'docs' / 'benchmarks.md'
START, END = '<!-- results: benchmarks/table.py -->', '<!-- end of results -->'
_WIDTH = 116
# Keys that the command already shows, or that the docs do not need.
_UNSAID = {
  'command',
  'versions',
  'device',
  'steps',
  'dataset',
  'dtype',
  'torch',
}


def rows() -> list[tuple[str, str, str]]:
  """Returns (command, machine, figures) of each result."""
  found = []
  for path in sorted((ROOT / 'benchmarks' / 'results').glob('*.jsonl')):
    for line in path.read_text().splitlines():
      result = json.loads(line)
      found.append((result['command'], _machine(result), _figures(result)))
  return found


def _machine(result: dict[str, Any]) -> str:
  device = result.get('device', {})
  if isinstance(device, str):
    return f'{device}, torch {result["torch"]}'
  name = f'{device.get("count", 1)} x {device.get("kind", "cpu")}'
  versions = result.get('versions', {})
  return f'{name}, jax {versions["jax"]}' if 'jax' in versions else name


def _figures(result: dict[str, Any]) -> str:
  """Returns the measured figures, without the options in the command."""
  options = {
    item.lstrip('-').partition('=')[0].replace('-', '_')
    for item in result['command'].split()[1:]
  }
  return ', '.join(
    f'{name} {_plain(value)}'
    for name, value in result.items()
    if name not in _UNSAID | options and value not in (None, [], '')
  )


def _plain(value: Any) -> str:
  if isinstance(value, dict):
    return '(' + ', '.join(f'{k}: {_plain(v)}' for k, v in value.items()) + ')'
  if isinstance(value, list):
    return ' '.join(map(_plain, value))
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  return f'{value:,}' if isinstance(value, int) else str(value)


def table() -> str:
  """Returns the list of results, a code block in Markdown."""
  lines = ['```text']
  for command, machine, figures in rows():
    lines += _wrapped(command, '') + _wrapped(f'{machine}: {figures}', '  ')
    lines.append('')
  return '\n'.join([*lines[:-1], '```'])


def _wrapped(text: str, indent: str) -> list[str]:
  return textwrap.wrap(
    text,
    _WIDTH,
    initial_indent=indent,
    subsequent_indent=f'{indent}  ',
    break_long_words=False,
    break_on_hyphens=False,
  )


def with_table(text: str) -> str:
  """Returns the docs with the current list of results."""
  before, _, rest = text.partition(START)
  return f'{before}{START}\n{table()}\n{END}{rest.partition(END)[2]}'


def main() -> None:
  """Prints or writes the list."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--write', action='store_true')
  if parser.parse_args().write:
    DOCS.write_text(with_table(DOCS.read_text()))
  else:
    print(table())


if __name__ == '__main__':
  main()
