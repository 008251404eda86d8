"""The table of the rows that `accelerator.py` measured, in Markdown."""

import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

HEAD = ('what', 'time', 'rate', 'share', 'memory')
Row = dict[str, Any]
# Texts of a line of the table, below `HEAD`.
Line = tuple[str, str, str, str, str]


def read(path: pathlib.Path) -> list[Row]:
  """Returns the rows in a file; a line that was not finished is left out."""
  rows = []
  for line in path.read_text('utf-8', 'replace').splitlines():
    try:
      row = json.loads(line)
    except ValueError:
      continue
    if isinstance(row, dict) and 'row' in row:
      rows.append(row)
  return rows


def table(rows: Sequence[Row]) -> str:
  """Returns the table of the rows; of one name, the last that was measured."""
  latest: dict[str, Row] = {}
  for row in rows:
    former = latest.get(row['row'])
    if former is None or 'left_out' in former or 'left_out' not in row:
      latest[row['row']] = row
  lines: list[Sequence[str]] = [HEAD]
  for row in latest.values():
    if 'left_out' in row:
      lines.append((row['row'], f'left out: {row["left_out"]}', '', '', ''))
    else:
      lines += _FORMS[row['benchmark']](row, latest)
  machines = dict.fromkeys(filter(None, map(_machine, latest.values())))
  marks = [['---'] * len(HEAD)]
  return '\n'.join(
    [
      *(f'- {machine}' for machine in machines),
      '',
      *(f'| {" | ".join(x)} |' for x in [lines[0], *marks, *lines[1:]]),
    ]
  )


def _machine(row: Row) -> str:
  """Returns device and versions of a row; '' if it has none."""
  device = row.get('device')
  if device is None:
    return ''
  if isinstance(device, str):
    return f'{device}, torch {row["torch"]}'
  versions = row['versions']
  return (
    f'{device["count"]} x {device["kind"]} ({device["platform"]}), '
    f'jax {versions["jax"]}, python {versions["python"]}'
  )


def _seconds(value: float) -> str:
  """Returns seconds with a unit that leaves few digits."""
  if value < 1:
    return f'{1000 * value:,.3g} ms'
  return f'{value:.3g} s' if value < 100 else f'{value:,.0f} s'


def _share(value: float, of: str) -> str:
  return f'{100 * value:.0f} % of {of}'


def _gib(row: Row, *names: str) -> str:
  """Returns the first of some sizes that the row has."""
  name = next((name for name in names if name in row), None)
  return f'{row[name]:.3g} GiB' if name else ''


def _peaks(row: Row, rows: dict[str, Row]) -> Iterator[Line]:
  del rows
  for dtype in ('float32', 'bfloat16'):
    rate = row[f'{dtype}_tflop_per_second']
    yield f'matrix product, {dtype}', '', f'{rate:.4g} TFLOP/s', '', ''
  rate = row['bandwidth_gb_per_second']
  yield 'memory bandwidth', '', f'{rate:,.0f} GB/s', '', ''


def _step(row: Row, rows: dict[str, Row]) -> Iterator[Line]:
  del rows
  yield (
    _name(row, 'training step'),
    _seconds(row['step_seconds_median']),
    f'{row["videos_per_second"]:,.0f} videos/s',
    _share(row['share_of_peak'], 'peak'),
    _gib(row, 'step_gib'),
  )


def _torch(row: Row, rows: dict[str, Row]) -> Iterator[Line]:
  ours = rows.get(row['row'].replace('torch', 'step'), {})
  beside = ''
  if 'step_seconds_median' in ours:
    ratio = row['step_seconds_median'] / ours['step_seconds_median']
    beside = f'{ratio:.2f} times the step'
  yield (
    _name(row, 'step in plain PyTorch'),
    _seconds(row['step_seconds_median']),
    f'{row["videos_per_second"]:,.0f} videos/s',
    beside,
    _gib(row, 'device_peak_gib', 'host_peak_gib'),
  )


def _run(row: Row, rows: dict[str, Row]) -> Iterator[Line]:
  del rows
  evaluation = _seconds(row['evaluation_seconds'][-1])
  yield (
    _name(row, f'run of {row["epochs_of_a_run"]} epochs, estimated'),
    f'{row["run_minutes"]:.3g} minutes',
    f'{_seconds(row["epoch_seconds"])} an epoch, of it {evaluation} evaluation',
    '',
    _gib(row, 'device_peak_gib', 'host_peak_gib'),
  )


def _evaluation(row: Row, rows: dict[str, Row]) -> Iterator[Line]:
  del rows
  yield (
    _name(row, 'evaluation'),
    _seconds(row['evaluation_seconds_median']),
    f'{row["query_videos_per_second"]:,} pairs/s ranked',
    _share(row['rank_share_of_peak'], 'peak (ranking)'),
    _gib(row, 'device_peak_gib', 'host_peak_gib'),
  )


def _search(row: Row, rows: dict[str, Row]) -> Iterator[Line]:
  del rows
  name = row['row'].split()[1]
  for batch in (1, 64):
    times = row[f'batch_{batch}']
    what = 'one query' if batch == 1 else f'{batch} queries'
    yield (
      f'exact search, {name} tokens, {what}',
      _seconds(times['p50_ms'] / 1000),
      f'{times["queries_per_second"]:,.0f} queries/s',
      _share(times['share_of_bandwidth'], 'bandwidth'),
      f'{row["bytes_per_video"]:,} bytes a video',
    )


def _encoder(row: Row, rows: dict[str, Row]) -> Iterator[Line]:
  del rows
  yield (
    _name(row, 'image encoder'),
    _seconds(row['batch_seconds_median']),
    f'{row["pictures_per_second"]:,.0f} pictures/s',
    _share(row['share_of_peak'], 'peak'),
    _gib(row, 'device_peak_gib', 'host_peak_gib'),
  )


def _name(row: Row, what: str) -> str:
  """Returns what is measured, and of what."""
  return ', '.join([what, *row['row'].split()[1:]])


_FORMS: dict[str, Callable[[Row, dict[str, Row]], Iterator[Line]]] = {
  'peaks': _peaks,
  'train_step': _step,
  'plain_torch': _torch,
  'whole_run': _run,
  'evaluation': _evaluation,
  'search_device': _search,
  'encoders': _encoder,
}
