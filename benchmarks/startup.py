"""Where the time of a command goes before, and while, it works.

  python benchmarks/startup.py [--out=FILE.jsonl] [--videos=DIR]
    [--index=INDEX --query="a dog runs"] [--cases=help,search,index,quickstart]

Each command runs twice, each time in a process of its own; the first run finds
an empty cache folder, the second what the first has kept. A row has, in
seconds: `total`, from the start of the process to its end; `starting`, until
Python runs the first line, and the end of the process; `importing`; `opening`
files and weights; `tracing` and `lowering` functions to programs; `compiling`
programs or loading kept ones; `running`, all the rest. `programs` are compiled
or loaded, `loaded` only loaded. `load` is the machine's load before the run:
only rows of a quiet machine can be compared.

Without --index, the search is one of word features in an index of the
quickstart's corpus, whose model is trained for one epoch first. Without
--videos, --clips short videos are made (needs PyAV).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
CHILD = ROOT / 'benchmarks/startup_child.py'
CASES = ('help', 'search', 'index', 'quickstart')
STAGES = (
  'starting',
  'importing',
  'opening',
  'tracing',
  'lowering',
  'compiling',
  'running',
)
# Variables that would change what is kept, and where.
CHANGING = (
  'JAX_COMPILATION_CACHE_DIR',
  'JAX_ENABLE_COMPILATION_CACHE',
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS',
  'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES',
)


def measure(arguments: Sequence[str], cache: pathlib.Path) -> dict[str, Any]:
  """Runs a command of the package; returns what it took.

  Args:
    arguments: The command line without the program.
    cache: The cache folder of the user.

  Raises:
    SystemExit: If the command fails.
  """
  environment = {k: v for k, v in os.environ.items() if k not in CHANGING}
  load = os.getloadavg()[0]
  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / 'facts.json'
    began = time.time()
    done = subprocess.run(
      [sys.executable, CHILD, *arguments],
      env={
        **environment,
        'XDG_CACHE_HOME': str(cache),
        'STARTUP_OUT': str(out),
      },
      capture_output=True,
      text=True,
    )
    ended = time.time()
    if done.returncode:
      sys.exit(f'{" ".join(arguments)} failed:\n{done.stderr}')
    facts = json.loads(out.read_text())
  total = ended - began - facts['adding_up']
  starting = total - sum(facts['seconds'].values())
  return {
    'total': round(total, 3),
    **{
      name: round({**facts['seconds'], 'starting': starting}[name], 3)
      for name in STAGES
    },
    'cpu_seconds': round(facts['cpu_seconds'], 3),
    'programs': facts['programs'],
    'loaded': facts['loaded'],
    'load': round(load, 2),
  }


def make_videos(folder: pathlib.Path, count: int) -> None:
  """Writes short videos of moving squares."""
  import av

  folder.mkdir()
  rng = np.random.default_rng(0)
  for number in range(count):
    with av.open(str(folder / f'clip_{number:02}.mp4'), 'w') as container:
      stream: Any = container.add_stream('mpeg4', rate=10)
      stream.width, stream.height, stream.pix_fmt = 160, 120, 'yuv420p'
      colour, step = rng.integers(64, 256, 3), int(rng.integers(1, 4))
      for moment in range(60):
        image = np.full((120, 160, 3), 8 * number, np.uint8)
        left = moment * step % 120
        image[40:80, left : left + 40] = colour
        frame = av.VideoFrame.from_ndarray(image, format='rgb24')
        container.mux(stream.encode(frame))
      container.mux(stream.encode(None))


def trained_index(
  work: pathlib.Path, cache: pathlib.Path
) -> tuple[str, list[str]]:
  """Returns an index of a model that is trained for one epoch, and flags that
  ask one query."""
  run = work / 'short_run'
  data = f'--config.data.root={work}/data'
  common = ['--noprogress', data]
  measure(
    [
      f'--config={ROOT}/configs/quickstart.py',
      '--config.train.epochs=1',
      '--config.report.pictures=False',
      '--config.report.untrained=False',
      f'--workdir={run}',
      *common,
    ],
    cache,
  )
  index, query = work / 'trained_index', work / 'query.npz'
  measure(['index', f'--checkpoint={run}', f'--index={index}', *common], cache)
  width = json.loads((run / 'config.json').read_text())['text_width']
  words = np.random.default_rng(0).normal(size=(6, width))
  np.savez(query, query=words.astype(np.float32))
  return str(index), [f'--queries={query}']


def commands(
  case: str, options: argparse.Namespace, work: pathlib.Path
) -> Iterator[list[str]]:
  """Yields the command line of each run of a case."""
  if case == 'search' and options.index:
    index, query = options.index, [f'--query={options.query}']
  elif case == 'search':
    # What it takes to make the index is kept elsewhere.
    index, query = trained_index(work, work / 'other_cache')
  elif case == 'index' and not options.videos:
    make_videos(work / 'videos', options.clips)
  for run in range(options.runs):
    if case == 'help':
      yield ['--help']
    elif case == 'search':
      yield ['search', f'--index={index}', *query, '--noprogress']
    elif case == 'index':
      yield [
        'index',
        f'--videos={options.videos or work / "videos"}',
        f'--index={work}/index_{run}',
        f'--encoder={options.encoder}',
        '--noprogress',
      ]
    else:
      yield [
        f'--config={ROOT}/configs/quickstart.py',
        f'--config.data.root={work}/quickstart_data_{run}',
        f'--workdir={work}/quickstart_{run}',
        '--noprogress',
      ]


def table(rows: Sequence[dict[str, Any]]) -> str:
  """Returns the rows as a Markdown table, in seconds."""
  names = ('case', 'run', 'total', *STAGES, 'programs', 'loaded', 'load')
  lines = [' | '.join(names), ' | '.join('---' for _ in names)]
  lines += [' | '.join(str(row[name]) for name in names) for row in rows]
  return '\n'.join(f'| {line} |' for line in lines)


def main() -> None:
  options = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  options.add_argument('--cases', default=','.join(CASES), help='what to run')
  options.add_argument('--runs', type=int, default=2, help='runs of a case')
  options.add_argument('--out', default='', help='file that rows are added to')
  options.add_argument('--index', default='', help='index to search')
  options.add_argument('--query', default='a dog runs', help='the sentence')
  options.add_argument('--videos', default='', help='folder to index')
  options.add_argument('--clips', type=int, default=23, help='videos to make')
  options.add_argument('--encoder', default='embedded', help='of the videos')
  given = options.parse_args()
  wrong = sorted({*given.cases.split(',')} - {*CASES})
  if wrong:
    options.error(f'there is no case {wrong[0]!r}; choose {", ".join(CASES)}')
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    for case in given.cases.split(','):
      cache = work / f'cache_{case}'
      for run, command in enumerate(commands(case, given, work), 1):
        row = {'case': case, 'run': run, **measure(command, cache)}
        rows.append(row)
        print(json.dumps(row), flush=True)
        if given.out:
          with open(given.out, 'a') as file:
            file.write(json.dumps(row) + '\n')
  print(table(rows))


if __name__ == '__main__':
  main()
