"""A stand-in for main.py: writes the files of a training run at once.

With seed 7 it fails. With seed 8 it waits to be stopped, unless it was stopped
before.
"""

import json
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from dreamprvr_jax.cli import flags


def run() -> int:
  values = flags.parse(sys.argv)
  config, workdir = values.config, pathlib.Path(values.workdir)
  (workdir / 'config.json').write_text(
    json.dumps(
      {
        'config': config.to_dict(),
        'device': {'count': 1, 'kind': 'abacus'},
      }
    )
  )
  if config.seed == 7:
    print('error: the fake was asked to fail', file=sys.stderr)
    return 2
  stopped = workdir / 'stopped'
  if config.seed == 8 and not stopped.exists():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
      stopped.touch()
      time.sleep(60)
    finally:
      (workdir / 'saved').touch()
  rows = [
    {'kind': 'train', 'step': s, 'epoch': 1, 'seconds_per_step': 2.0}
    for s in (1, 2)
  ]
  rows.append({'kind': 'eval', 'step': 2, 'epoch': 1})
  (workdir / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  recalls = {'R@1': 1.0, 'R@5': 2.0, 'R@10': 3.0, 'R@100': 4.0}
  found = {**recalls, 'SumR': config.model.width + 2.0 * config.seed}
  found |= {'split': 'test', 'num_queries': 1200, 'num_videos': 100, 'epoch': 1}
  chance = dict.fromkeys(found, 0.5)
  (workdir / 'eval_test.json').write_text(
    json.dumps({**found, 'chance': chance, 'parameters': 1234})
  )
  return 0


sys.exit(run())
