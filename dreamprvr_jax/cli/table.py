"""--mode=table and --mode=sweep: compare methods, or values of a key."""

import dataclasses
import itertools
import json
import os
import pathlib
import shlex
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from configs import published
from dreamprvr_jax import folders
from dreamprvr_jax.cli import series, variants
from dreamprvr_jax.cli.series import ConfigOf, Run
from dreamprvr_jax.devices import processes
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.metrics import seeds
from dreamprvr_jax.report import comparison
from dreamprvr_jax.report.sweep import plot_sweep
from dreamprvr_jax.trained.retriever import FREE

SWEEP = 'sweep.png'


@dataclasses.dataclass(frozen=True)
class Request:
  """The command line of a table or a sweep; see `options.py`."""

  config: str
  overrides: Sequence[str]
  seeds: int
  workdir: str
  out: str
  num_processes: int
  progress: bool
  methods: str = ''
  sweep: str = ''


def run(request: Request, config_of: ConfigOf) -> int:
  """Carries out the unfinished runs and writes the table after each; returns
  the exit code.

  Raises:
    UserError: If the request cannot be met, or runs failed.
  """
  path, _, model = request.config.partition(':')
  _check(request, model)
  key = ''
  if request.sweep:
    key, rows = variants.parse_sweep(request.sweep, model)
  else:
    rows = variants.parse_methods(request.methods)
  workdir = pathlib.Path(request.workdir)
  runs = series.plan(
    rows, request.seeds, path, request.overrides, workdir, config_of
  )
  out = pathlib.Path(request.out or workdir)

  def write() -> None:
    table = make_table(runs, f'{request.config}: {key or "methods"}')
    write_table(table, out)
    if key:
      draw_sweep(runs, key, out)

  try:
    return series.carry_out(runs, workdir, show=request.progress, write=write)
  finally:
    # This is also done if all runs were finished before, or some failed.
    if any(run.result() for run in runs):
      write()
      shown = (out / 'table.md').read_text(encoding='utf-8')
      series.say(f'\n{shown}\n{out / "table.md"}')


def _check(request: Request, model: str) -> None:
  """Raises UserError if the request contradicts itself."""
  if request.seeds < 1:
    raise UserError(f'--seeds={request.seeds} must be at least 1')
  if model and not request.sweep:
    raise UserError(
      f'--config={request.config} names a model; a table takes its models '
      f'from --methods: leave :{model} out'
    )
  if processes.find_launch(os.environ, count=request.num_processes):
    raise UserError(
      'a table or sweep is one process, which starts its runs itself, but '
      'the environment says that several were started; add --num_processes=1'
    )


def make_table(runs: Sequence[Run], title: str) -> dict[str, Any]:
  """Returns the comparison of the finished runs, at least one, in the form
  that `report.comparison` takes."""
  finished: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
  for run in runs:
    result = run.result()
    if result:
      finished.setdefault(run.variant.label, []).append((run, result))
  rows = [_row(label, found) for label, found in finished.items()]
  results = [result for found in finished.values() for _, result in found]
  tasks = dict.fromkeys(
    f'Split {r["split"]}: {r["num_queries"]:,} queries, {r["num_videos"]:,} '
    'videos.'
    for r in results
  )
  return {
    'title': title,
    'command': shlex.join(sys.argv),
    'tasks': [*tasks],
    'rows': rows,
    'chance': results[0]['chance'],
    'unfinished': [run.name for run in runs if run.result() is None],
    'differences': _differences(rows),
  }


def _row(
  label: str, found: Sequence[tuple[Run, dict[str, Any]]]
) -> dict[str, Any]:
  run, first = found[0]
  results = [result for _, result in found]
  times = [r['seconds_per_step'] for r in results if r['seconds_per_step']]
  devices = [f'{d["count"]} x {d["kind"]}' for d in _each(results, 'device')]
  theirs = published.RESULTS.get(run.config.data.collection, {}).get(label)
  return {
    'method': label,
    'model': run.config.model.name,
    'settings': run.variant.settings,
    'seeds': [run.seed for run, _ in found],
    'metrics': {
      name: seeds.spread(_each(results, name)) for name in comparison.METRICS
    },
    'parameters': first['parameters'],
    'seconds_per_step': statistics.median(times) if times else None,
    'devices': [*dict.fromkeys(devices)],
    'published': (
      dict(zip(published.COLUMNS, theirs, strict=True)) if theirs else None
    ),
  }


def _each(results: Sequence[dict[str, Any]], name: str) -> list[Any]:
  return [result[name] for result in results]


def _differences(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """Returns the differences of SumR: between the best method and all others,
  and between methods with neighbouring means."""
  order = sorted(rows, key=lambda row: -row['metrics']['SumR']['mean'])
  return {
    'with_best': [_difference(order[0], other) for other in order[1:]],
    'neighbours': [_difference(*pair) for pair in itertools.pairwise(order)],
  }


def _difference(row: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
  ours, theirs = (r['metrics']['SumR']['values'] for r in (row, other))
  seedless = (row['model'] in FREE, other['model'] in FREE)
  change, error = seeds.difference(ours, theirs, seedless=seedless)
  return {
    'method': row['method'],
    'other': other['method'],
    'SumR': change,
    'standard_error': error,
  }


def write_table(table: dict[str, Any], folder: pathlib.Path) -> None:
  """Writes table.md, table.tex, table.csv and table.json."""
  texts = {
    'md': comparison.markdown(table),
    'tex': comparison.latex(table),
    'csv': comparison.comma_separated(table),
    'json': json.dumps(table, indent=2) + '\n',
  }
  for ending, text in texts.items():
    folders.write_text(folder / f'table.{ending}', text)


def draw_sweep(runs: Sequence[Run], key: str, folder: pathlib.Path) -> None:
  """Writes sweep.png: SumR of the finished runs by the value of the key."""
  sums: dict[Any, list[float]] = {}
  for run in runs:
    result, value = run.result(), run.variant.settings[key]
    if result:
      if isinstance(value, bool) or not isinstance(value, int | float):
        value = str(value)
      sums.setdefault(value, []).append(result['SumR'])
  plot_sweep(key, sums, folder / SWEEP)
