"""Does bfloat16 compute harm SumR? Trains with both dtypes, several seeds.

python benchmarks/precision.py --out=DIR --seeds=0,1,2 -- \\
  --config=configs/quickstart.py

The flags behind `--` go to main.py. Each run has its workdir in DIR; a run that
is finished is not repeated. Prints one JSON line: SumR of
every run on the final split, means, standard deviations over the seeds, the
mean difference of the two dtypes and its standard error (pairs by seed).
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
DTYPES = ('float32', 'bfloat16')


def sum_of(workdir: pathlib.Path) -> float:
  """Returns SumR of a finished run's final evaluation."""
  (path,) = workdir.glob('eval_*.json')
  return json.loads(path.read_text())['SumR']


def main() -> int:
  """Carries out the missing runs, prints the comparison."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--out', required=True, help='folder of the workdirs')
  parser.add_argument('--seeds', default='0,1,2')
  parser.add_argument('rest', nargs='*', help='flags of main.py')
  options = parser.parse_args()
  seeds = [int(seed) for seed in options.seeds.split(',')]
  found: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
  for seed in seeds:
    for dtype in DTYPES:
      workdir = pathlib.Path(options.out).absolute() / f'{dtype}-{seed}'
      if not list(workdir.glob('eval_*.json')):
        subprocess.run(
          [
            sys.executable,
            'main.py',
            *options.rest,
            f'--workdir={workdir}',
            f'--config.seed={seed}',
            f'--config.dtype={dtype}',
          ],
          cwd=ROOT,
          check=True,
          stdout=sys.stderr,
        )
      found[dtype].append(sum_of(workdir))
  pairs = zip(found['bfloat16'], found['float32'], strict=True)
  gaps = [half - full for half, full in pairs]
  deviation = lambda values: (
    statistics.stdev(values) if len(values) > 1 else math.nan
  )
  versions = json.loads((workdir / 'config.json').read_text())
  print(
    json.dumps(
      {
        'command': ' '.join(sys.argv),
        'versions': versions['versions'],
        'device': versions['device'],
        'seeds': seeds,
        'SumR': found,
        'mean': {d: round(statistics.mean(v), 2) for d, v in found.items()},
        'deviation': {d: round(deviation(v), 2) for d, v in found.items()},
        'difference': round(statistics.mean(gaps), 2),
        'standard_error': round(deviation(gaps) / math.sqrt(len(gaps)), 2),
      }
    )
  )
  return 0


if __name__ == '__main__':
  sys.exit(main())
