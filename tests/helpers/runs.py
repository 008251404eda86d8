"""Small runs of main.py, in their own process or in this one."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
# A model and a corpus as small as the code allows: these tests are about files
# and processes, not numbers.
SMALL = (
  '--config=configs/quickstart.py',
  '--noprogress',
  '--config.simulated.videos=(20, 6, 7)',
  '--config.data.batch_size=8',
  '--config.data.eval_video_batch=4',
  '--config.data.eval_query_batch=16',
  '--config.data.workers=1',
  '--config.model.width=16',
  '--config.model.num_heads=2',
  '--config.model.block_widths=(0.0, 1.0)',
  '--config.model.diffusion_steps=3',
  '--config.model.diffusion_layers=1',
  '--config.model.num_registers=2',
  '--config.train.epochs=3',
  '--config.train.hard_negative_epoch=1',
  '--config.train.log_every=1',
  '--config.train.checkpoint_every=2',
  '--config.report.pictures=False',
  '--config.report.untrained=False',
)


def start(arguments, devices=1, patch='', cache=None):
  """Starts main.py with the arguments; output goes to pipes.

  Args:
    arguments: The command line without the program.
    devices: CPU devices that the process has.
    patch: Code that runs first, in the same process.
    cache: A folder for compiled programs instead of the suite's, for processes
      of one run: only the first of them writes, and the others must not wait.
  """
  program = ['main.py']
  if patch:
    program = [
      '-c',
      f'{patch}\nimport sys, main\nsys.exit(main.main(sys.argv))',
    ]
  return subprocess.Popen(
    [sys.executable, *program, *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, 'JAX_NUM_CPU_DEVICES': str(devices)}
    | ({'JAX_COMPILATION_CACHE_DIR': str(cache)} if cache else {}),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process, seconds=600):
  """Returns (exit code, stdout, stderr) of a started run."""
  out, err = process.communicate(timeout=seconds)
  return process.returncode, out, err


def call(arguments, devices=1, patch=''):
  """Runs main.py to its end; returns (exit code, stdout, stderr)."""
  return finish(start(arguments, devices, patch))


def rows(workdir, kind):
  """Returns the logged rows of a kind; half-written lines are skipped."""
  path = pathlib.Path(workdir) / 'metrics.jsonl'
  found = []
  for line in path.read_text().splitlines() if path.exists() else ():
    try:
      found.append(json.loads(line))
    except ValueError:
      continue
  return [row for row in found if row['kind'] == kind]


def losses(workdir):
  """Returns {step: total loss} of a run."""
  return {row['step']: row['loss/total'] for row in rows(workdir, 'train')}


def evaluation(workdir, split='test'):
  """Returns the metrics of a run's final evaluation."""
  return json.loads((pathlib.Path(workdir) / f'eval_{split}.json').read_text())


def stop_at(process, workdir, step, number=signal.SIGKILL, seconds=600):
  """Sends a signal once a run has logged a step; returns finish(process)."""
  deadline = time.monotonic() + seconds
  while time.monotonic() < deadline and process.poll() is None:
    if max(losses(workdir), default=0) >= step:
      process.send_signal(number)
      break
    time.sleep(0.02)
  return finish(process)
