"""Several runs of main.py, one after the other, each in its own process.

A run that crashes or is killed does not affect the others. Each run has a
workdir, where it is continued. When it is finished it gets `finished.json`, and
is skipped the next time.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from tqdm import tqdm

from configs import common, keys
from dreamprvr_jax import checkpoints, folders
from dreamprvr_jax.cli import provenance, sizing
from dreamprvr_jax.cli.training import check_same_run
from dreamprvr_jax.cli.variants import Variant, kept_overrides, keys_of
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.metrics.step_time import median_step
from dreamprvr_jax.train.metric_log import read_rows
from dreamprvr_jax.train.signals import StopRequest
from dreamprvr_jax.trained.retriever import FREE

# This process must not use a device: the runs need all of its memory.
PROGRAM = (sys.executable, '-m', 'dreamprvr_jax.cli')
# The folder that contains the package, installed or not.
_ROOT = pathlib.Path(__file__).parents[2]
FINISHED = 'finished.json'
LOG = 'log.txt'
# What a retriever without training has in a form of its own.
SHAPES = ('data.clips', 'data.num_clips', 'data.max_frames', 'data.max_words')

ConfigOf = Callable[[list[str]], ConfigDict]


@dataclasses.dataclass(frozen=True)
class Run:
  """One seed of a variant.

  Attributes:
    variant: The variant.
    seed: The seed of the run.
    workdir: The folder of the run.
    flags: The flags that define the config.
    config: The config of these flags.
  """

  variant: Variant
  seed: int
  workdir: pathlib.Path
  flags: list[str]
  config: ConfigDict

  @property
  def name(self) -> str:
    """The name of the run in messages."""
    return f'{self.variant.label}, seed {self.seed}'

  @property
  def is_free(self) -> bool:
    """Whether there is nothing to train: the run is an evaluation."""
    return self.config.model.name in FREE

  def result(self) -> dict[str, Any] | None:
    """Returns the stored result, or None if the run is not finished."""
    path = self.workdir / FINISHED
    if not path.exists():
      return None
    result = json.loads(path.read_text())
    asked = self.config.data.eval_split
    return result if result['eval_split'] == asked else None


def plan(
  variants: Sequence[Variant],
  seeds: int,
  path: str,
  overrides: Sequence[str],
  workdir: pathlib.Path,
  config_of: ConfigOf,
) -> list[Run]:
  """Returns the runs, grouped by variant; trains nothing.

  A retriever without training has one run, since it depends on no seed, and
  of the flags of all runs those that mean something to it.

  Args:
    variants: The variants.
    seeds: Number of seeds per variant; they count from its config's seed.
    path: Config file.
    overrides: --config.KEY=VALUE flags of all runs.
    workdir: Folder of all runs.
    config_of: Returns the config of a run's flags.

  Raises:
    UserError: If a config is invalid, or a workdir holds other settings.
  """
  found = []
  for variant in variants:
    file = f'{path}:{variant.model}' if variant.model else path
    try:
      taken = _taken(file, overrides, config_of)
      flags = [f'--config={file}', *taken, *variant.flags]
      config = config_of(flags)
      first, count = config.seed, 1 if config.model.name in FREE else seeds
      for seed in range(first, first + count):
        own = [*flags, f'--config.seed={seed}']
        folder = workdir / variant.folder / f'seed-{seed}'
        own_config = config_of(own)
        found.append(Run(variant, seed, folder, own, own_config))
        kept = sizing.as_stored(own_config, folder, keys_of(own))
        check_same_run(folder, kept)
    except UserError as error:
      raise UserError(f'{variant.label}: {error}') from error
  return found


def _taken(
  file: str, overrides: Sequence[str], config_of: ConfigOf
) -> list[str]:
  """Returns the overrides that a method takes: all, unless it is a retriever
  without training. That has few keys, and reads every frame of a video."""
  config = config_of([f'--config={file}'])
  if config.model.name not in FREE:
    return [*overrides]
  own = flatten_dict(provenance.plain_config(config), sep='.')
  common.declare_all()
  others = (keys.DESCRIPTIONS.keys() - own.keys()) | {*SHAPES}
  # A key that no model has stays, to be refused.
  return kept_overrides(overrides, lambda key: key not in others)


def carry_out(
  runs: Sequence[Run],
  workdir: pathlib.Path,
  *,
  show: bool,
  write: Callable[[], None],
) -> int:
  """Carries out the unfinished runs; returns the exit code.

  Args:
    runs: The runs.
    workdir: Folder of all runs.
    show: Whether a bar counts the epochs.
    write: Called after every finished run.

  Raises:
    UserError: If another command uses the workdir, or runs failed.
  """
  failed, seconds = [], []
  # A run that outlives a killed command still locks the workdir, so that two
  # processes never write to one workdir.
  with folders.held(workdir, 'table') as lock, StopRequest() as stop:
    for number, run in enumerate(runs, 1):
      name = f'run {number} of {len(runs)}: {run.name}'
      result = run.result()
      if result:
        say(f'{name}: SumR {result["SumR"]:.1f}, finished before')
        continue
      say(f'{name}: begins; its output: {run.workdir / LOG}')
      began = time.monotonic()
      code = _run(run, name, lock, stop, show)
      if code == 0:
        seconds.append(time.monotonic() - began)
        result = _keep_result(run)
        write()
        left = sum(other.result() is None for other in runs[number:])
        say(
          f'{name}: SumR {result["SumR"]:.1f} ({_which(result)}) after '
          f'{_clock(seconds[-1])}; '
          f'{_estimate(left, seconds)}'
        )
      if stop.signal:
        say(
          f'stopped by {stop.signal.name}; everything is saved in {workdir}. '
          'The same command continues from there.'
        )
        return 128 + stop.signal
      if code != 0:
        failed.append(run)
        say(f'{name}: {_failure(run, code)}')
  if failed:
    raise UserError(
      f'{len(failed)} of {len(runs)} runs failed '
      f'({"; ".join(run.name for run in failed)}): see {LOG} in their '
      f'folders under {workdir}; the same command tries them again'
    )
  return 0


def say(text: str) -> None:
  """Prints a line at once; unlike `console.say`, it needs no device."""
  print(text, flush=True)


def _run(run: Run, name: str, lock: int, stop: StopRequest, show: bool) -> int:
  """Trains or continues one run; returns its exit code."""
  run.workdir.mkdir(parents=True, exist_ok=True)
  command = [
    *PROGRAM,
    *(['--mode=evaluate'] if run.is_free else []),
    *run.flags,
    f'--workdir={run.workdir}',
    '--noprogress',
    '--num_processes=1',
  ]
  with (run.workdir / LOG).open('a') as log:
    log.write(f'$ {shlex.join(command)}\n')
    log.flush()
    former = os.environ.get('PYTHONPATH')
    found = os.pathsep.join([str(_ROOT), *([former] if former else [])])
    process = subprocess.Popen(
      command,
      stdout=log,
      stderr=log,
      pass_fds=[lock],
      env={**os.environ, 'PYTHONPATH': found},
    )
  folders.sign(lock, process.pid)
  bar = tqdm(
    desc=name,
    total=run.config.train.epochs,
    unit='epoch',
    disable=not show,
    leave=False,
    dynamic_ncols=True,
  )
  told = False
  try:
    with bar:
      while True:
        try:
          return process.wait(timeout=1)
        except subprocess.TimeoutExpired:
          if stop and not told:
            process.terminate()
            told = True
          bar.n = _epochs(run) if show else 0
          bar.refresh()
  finally:
    if process.poll() is None:
      process.terminate()
      process.wait()
    folders.sign(lock, os.getpid())


def _epochs(run: Run) -> int:
  """Returns the number of epochs that a run has evaluated."""
  rows = read_rows(run.workdir)
  return max((r['epoch'] for r in rows if r['kind'] == 'eval'), default=0)


def _keep_result(run: Run) -> dict[str, Any]:
  """Writes and returns the results of a run that has just ended."""
  newest = max(
    run.workdir.glob('eval_*.json'), key=lambda path: path.stat().st_mtime_ns
  )
  stored = checkpoints.read_config(run.workdir)
  result = {
    **json.loads(newest.read_text()),
    'eval_split': run.config.data.eval_split,
    'seconds_per_step': median_step(read_rows(run.workdir)),
    'device': stored['device'],
  }
  folders.write_json(run.workdir / FINISHED, result)
  return result


def _failure(run: Run, code: int) -> str:
  """Returns how a run failed: its exit code and the end of its log."""
  lines = (run.workdir / LOG).read_text(errors='replace').splitlines()
  last = next((line for line in reversed(lines) if line.strip()), '')
  how = f'ended by {signal.Signals(-code).name}' if code < 0 else f'exit {code}'
  return f'failed ({how}): {last.strip()[:500]}'


def _which(result: dict[str, Any]) -> str:
  return f'epoch {result["epoch"]}' if 'epoch' in result else 'not trained'


def _estimate(left: int, seconds: Sequence[float]) -> str:
  if not left:
    return 'none is left'
  about = _clock(left * sum(seconds) / len(seconds))
  return f'{left} left, about {about}'


def _clock(seconds: float) -> str:
  return str(datetime.timedelta(seconds=round(seconds)))
