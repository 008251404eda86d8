"""A server under load: many clients that search, over loopback.

python benchmarks/serving.py --clients=64 --seconds=60

Builds an untrained model and an index of generated videos, or takes --index
(with its own checkpoint and text encoder), serves it in a process of its own
with --mode=serve, and lets every client send one query after the other. Prints
one JSON line: requests per second, median and 99th percentile of an answer in
milliseconds, the number of answers other than 200, mean queries of a batch, and
the resident memory of the server in MiB when it was ready, after a quarter of
the time, and at the end.
"""

import collections
import contextlib
import http.client
import json
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import harness
import numpy as np

from dreamprvr_jax import checkpoints
from dreamprvr_jax.archive.encoders import build
from dreamprvr_jax.archive.index import writer
from dreamprvr_jax.archive.index.encoding import Videos
from dreamprvr_jax.cli import provenance
from dreamprvr_jax.train.step import init_variables
from dreamprvr_jax.trained.inference import blank_of
from dreamprvr_jax.trained.retriever import Retriever

_BATCH = 64
_WORDS = [f'{first}{last}' for first in 'bdfghk' for last in ('al', 'en', 'or')]


def made_index(options: Any, folder: pathlib.Path) -> pathlib.Path:
  """Writes a checkpoint and an index of generated videos; returns the index."""
  sizes = harness.DATASETS[options.dataset]
  config = harness.config_of(options)
  encoder = build('embedded')
  plain = provenance.plain_config(config)
  blank = blank_of(plain, sizes.visual, encoder.text_width)
  stored = {
    'config': plain,
    'visual_width': sizes.visual,
    'text_width': encoder.text_width,
    'encoder': encoder.identity,
  }
  variables = init_variables(harness.build(config), blank, 0)
  checkpoints.save_weights(folder / 'checkpoint', variables, stored)

  def batches() -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    clips, frames = config.data.num_clips, config.data.max_frames
    noise = lambda length: rng.standard_normal(
      (_BATCH, length, sizes.visual), np.float32
    )
    for start in range(0, options.videos, _BATCH):
      yield {
        'clip_features': noise(clips),
        'frame_features': noise(frames),
        'frame_mask': np.ones((_BATCH, frames), bool),
        'video_mask': np.arange(start, start + _BATCH) < options.videos,
      }

  ids = [f'v{i}' for i in range(options.videos)]
  videos = Videos(ids, np.full(options.videos, 60.0), batches)
  retriever = Retriever.load(folder / 'checkpoint')
  writer.create(folder / 'index', retriever, videos)
  return folder / 'index'


@contextlib.contextmanager
def served(index: str) -> Iterator[int]:
  """Yields the port of a server that is ready."""
  command = [sys.executable, harness.ROOT / 'main.py', '--mode=serve']
  with subprocess.Popen(
    [*command, f'--index={index}', '--port=0'],
    stdout=subprocess.PIPE,
    text=True,
  ) as server:
    try:
      assert server.stdout is not None
      found = None
      while found is None:
        line = server.stdout.readline()
        assert line, 'the server ended'
        found = re.search(r'serving on http://.*:(\d+)', line)
      port = int(found[1])
      while asked(port, '/api/health')[0] != 200:
        time.sleep(0.5)
      yield port
    finally:
      server.send_signal(signal.SIGTERM)
  assert server.returncode == 143, server.returncode


def asked(port: int, path: str) -> tuple[int, str]:
  """Returns status and text of a GET."""
  connection = http.client.HTTPConnection('127.0.0.1', port)
  with contextlib.closing(connection):
    connection.request('GET', path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def metric(port: int, name: str) -> float:
  """Returns a number that the server counts."""
  text = asked(port, '/metrics')[1]
  found = re.search(rf'^{name} (\S+)$', text, re.MULTILINE)
  assert found, name
  return float(found[1])


def client(
  port: int, end: float, seed: int, seconds: list[float], statuses: Any
) -> None:
  """Searches until `end` and adds the results."""
  rng = random.Random(seed)
  connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
  while time.monotonic() < end:
    text = ' '.join(rng.choices(_WORDS, k=rng.randint(3, 12)))
    began = time.monotonic()
    try:
      connection.request(
        'POST',
        '/api/search',
        json.dumps({'query': text}),
        {'Content-Type': 'application/json'},
      )
      answer = connection.getresponse()
      hits = json.loads(answer.read()).get('hits')
      status = str(answer.status if hits else f'{answer.status} without hits')
    except (OSError, http.client.HTTPException) as error:
      connection.close()
      status = type(error).__name__
    seconds.append(time.monotonic() - began)
    statuses[status] += 1


def loaded(port: int, options: Any) -> dict[str, Any]:
  """Returns the results of the load."""
  memory = lambda: metric(port, 'process_resident_memory_bytes') / 2**20
  resident = {'ready': round(memory(), 1)}
  seconds: list[float] = []
  statuses: collections.Counter[str] = collections.Counter()
  began = time.monotonic()
  end = began + options.seconds
  threads = [
    threading.Thread(target=client, args=(port, end, i, seconds, statuses))
    for i in range(options.clients)
  ]
  for thread in threads:
    thread.start()
  time.sleep(options.seconds / 4)
  resident['quarter'] = round(memory(), 1)
  for thread in threads:
    thread.join()
  took = time.monotonic() - began
  resident['end'] = round(memory(), 1)
  good = statuses.pop('200', 0)
  batches = metric(port, 'dreamprvr_batch_queries_count')
  queries = metric(port, 'dreamprvr_batch_queries_sum')
  return {
    'requests_per_second': round(good / took, 1),
    'p50_ms': round(1000 * float(np.percentile(seconds, 50)), 1),
    'p99_ms': round(1000 * float(np.percentile(seconds, 99)), 1),
    'answered': good,
    'not_answered': dict(statuses),
    'mean_batch': round(queries / batches, 1),
    'server_mib': resident,
  }


def main() -> None:
  """Serves an index, sends queries, prints the result."""
  parser = harness.parser(__doc__)
  parser.add_argument('--clients', type=int, default=64, help='at a time')
  parser.add_argument('--seconds', type=float, default=60, help='of load')
  parser.add_argument('--videos', type=int, default=512, help='made ones')
  parser.add_argument('--index', help='in place of made videos')
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    index = options.index or made_index(options, pathlib.Path(folder))
    with served(str(index)) as port:
      results = loaded(port, options)
  harness.report(options, **results)


if __name__ == '__main__':
  sys.exit(main())
