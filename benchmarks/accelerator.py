"""All figures of a GPU or TPU in one command of at most eight minutes.

python benchmarks/accelerator.py
python benchmarks/accelerator.py --only=search --out=search.jsonl
python benchmarks/accelerator.py --table=accelerator.jsonl

Measures what the device can do and what the programs make of it: training
steps, a run of three epochs, an evaluation, exact searches of 100,000 videos,
an image encoder, and the step as a plain PyTorch program, if PyTorch is
installed. It takes no network, no data and no TensorFlow; every number is
random and made on the device.

Each part runs in a process of its own, one after the other. One that fails is a
row that says why. Rows are added to --out as they come; at the end there is a
table of all of them. The same command again measures only what is missing in
--out, so that a slow machine gets the rest. --toy does the same with small
sizes, to try the command on a CPU; its figures mean nothing.
"""

import argparse
import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

# JAX takes three quarters of the memory of a GPU if it is not told more.
os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.9')

# None of these imports JAX: only one process at a time can have the devices,
# and that is the part that is measured.
import accelerator_table
from accelerator_parts import KINDS, Part, Unit, parts_of
from processes import LeftOutError, stream

from dreamprvr_jax.errors import UserError

# Minutes that the limits of the parts are meant for.
_MINUTES = 8
# No part begins with fewer seconds left.
_LEAST = 10
# Where the rate of a product is, and the option that takes it.
_GIVEN = {
  'float32': ('float32_tflop_per_second', '--peak'),
  'bfloat16': ('bfloat16_tflop_per_second', '--peak'),
  'bandwidth': ('bandwidth_gb_per_second', '--bandwidth'),
}


class Rows:
  """The rows in a file; new ones are on disk when `add` returns.

  Attributes:
    all: The rows, oldest first; a later one replaces one of the same name.
  """

  def __init__(self, path: pathlib.Path):
    """Reads the rows that a file has already; it need not exist."""
    self._path = path
    self.all = accelerator_table.read(path) if path.exists() else []

  def add(self, row: dict[str, Any]) -> None:
    """Adds a row at the end of the file."""
    self.all.append(row)
    with self._path.open('a', encoding='utf-8') as file:
      file.write(json.dumps(row) + '\n')
      file.flush()
      os.fsync(file.fileno())

  def has(self, name: str) -> bool:
    """Returns whether a row of this name was measured."""
    return any(r['row'] == name and 'left_out' not in r for r in self.all)

  def latest(self, key: str) -> Any:
    """Returns a value of the last row that has it, or None."""
    return next((row[key] for row in reversed(self.all) if key in row), None)

  @property
  def platform(self) -> str:
    """The platform of JAX's device, such as 'gpu'; '' if it is unknown."""
    devices = (row.get('device') for row in reversed(self.all))
    # PyTorch names its device only.
    found = next((one for one in devices if isinstance(one, dict)), None)
    return found['platform'] if found else ''


def given(unit: Unit, rows: Rows) -> Unit:
  """Returns a unit with the peaks that were measured before it."""
  key, option = _GIVEN.get(unit.peak, ('', ''))
  value = rows.latest(key) if key else None
  return unit.with_options(f'{option}={value}') if value else unit


def measured(
  part: Part, rows: Rows, seconds: float
) -> Iterator[dict[str, Any]]:
  """Yields a row for each unit of a part that the rows lack.

  Args:
    part: The part.
    rows: The rows so far.
    seconds: The process of the part is ended after so many.
  """
  missing = [given(u, rows) for u in part.units if not rows.has(u.name)]
  try:
    if seconds < _LEAST:
      raise LeftOutError('no time was left; the same command measures it')
    arrived = stream(
      'accelerator_parts',
      'measure',
      tuple(missing),
      rows.platform not in ('', 'cpu'),
      seconds=seconds,
    )
    for row in arrived:
      missing = [unit for unit in missing if unit.name != row['row']]
      yield row
  except LeftOutError as error:
    for unit in missing:
      yield {**unit.facts(), 'left_out': str(error).rstrip('.')}


def run(options: argparse.Namespace, rows: Rows) -> None:
  """Measures the parts and adds their rows, until the time is over.

  Raises:
    UserError: If JAX has no accelerator, unless all sizes are small.
  """
  began = time.monotonic()
  deadline = began + 60 * options.minutes
  for part in parts_of(toy=options.toy):
    names = [unit.name for unit in part.units]
    # The first says what the device is.
    kinds = ('peaks', *options.only)
    if part.kind not in kinds or all(map(rows.has, names)):
      continue
    if rows.platform == 'cpu' and not options.toy:
      raise UserError(
        'JAX finds no accelerator here, only a CPU; install JAX for the device '
        '(for example jax[cuda13] or jax[tpu]) and choose another --out, or '
        'try the command with --toy'
      )
    most = part.seconds * options.minutes / _MINUTES
    left = deadline - time.monotonic()
    for row in measured(part, rows, min(most, left)):
      rows.add(row)
      passed = time.monotonic() - began
      what = row.get('left_out') or 'measured'
      print(f'{passed:4.0f} s  {row["row"]}: {what}', flush=True)


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
  """Returns the options; those of the command line if none are given."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('--minutes', type=float, default=_MINUTES, help='at most, for all parts')
  add('--only', default=','.join(KINDS), help=f'some of {",".join(KINDS)}')
  add('--out', type=pathlib.Path, help='the file of the rows (JSON lines)')
  add('--toy', action='store_true', help='small sizes, to try the command')
  add('--table', type=pathlib.Path, help='only print the table of a file')
  options = parser.parse_args(arguments)
  options.only = options.only.split(',')
  unknown = sorted(set(options.only) - set(KINDS))
  if unknown:
    parser.error(f'--only names {unknown[0]!r}; choose of {", ".join(KINDS)}')
  if options.minutes <= 0:
    parser.error(f'--minutes is {options.minutes}, expected more than 0')
  if options.table and not options.table.is_file():
    parser.error(f'--table={options.table}: there is no such file')
  if options.out is None:
    name = 'accelerator_toy.jsonl' if options.toy else 'accelerator.jsonl'
    options.out = pathlib.Path(name)
  return options


def main() -> int:
  """Measures what is missing, prints the table, returns the exit code."""
  options = parsed()
  if options.table:
    print(accelerator_table.table(accelerator_table.read(options.table)))
    return 0
  rows, code = Rows(options.out), 0
  # A part that nobody waits for would keep the device.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  print(f'rows are added to {options.out}; {len(rows.all)} are there already')
  try:
    run(options, rows)
  except KeyboardInterrupt:
    code = 130
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print('\n' + accelerator_table.table(rows.all))
  return code


if __name__ == '__main__':
  sys.exit(main())
