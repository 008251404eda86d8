"""Finding short clips that are planted in long videos.

python benchmarks/planted.py --videos=DIR [--seconds=7200] [--parts=20,60]

Each clip of DIR is planted once in one of several long videos, which are made
from other clips in other guises. The index command makes an index of the long
videos; then each planted clip is asked for by its middle frame and as a clip,
both read from its own file. The retrievers and the lengths of the parts are
compared. For each: how often the right video comes first, how often the first
moment in it has a temporal IoU of at least 0.5 with the truth, the median
length of that moment, seconds and peak memory of the index command, and that
memory beside the one for the same pieces as short videos. Prints JSON lines.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import harness
import numpy as np
from planted_videos import Plant, plant, write

from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.search.index import Hit, Index
from dreamprvr_jax.archive.search.picture_queries import PictureQueries
from dreamprvr_jax.metrics.moments import temporal_iou

_ENOUGH = 0.5
# Runs the index command in a process of its own, and prints the most memory
# that it had, and the one of its processes that had most. The first is the
# kernel's number for the program: `getrusage` counts what started it, too.
_CHILD = """
import json, pathlib, resource, sys
from dreamprvr_jax.cli.main import main
code = main(sys.argv)
status = pathlib.Path('/proc/self/status').read_text()
own = int(status.split('VmHWM:')[1].split()[0])
most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([own, most]))
sys.exit(code)
"""


def indexed(videos: pathlib.Path, index: pathlib.Path, *flags: str) -> dict:
  """Runs the index command; returns its seconds and MiB of memory."""
  start = time.monotonic()
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      _CHILD,
      '--mode=index',
      f'--videos={videos}',
      f'--index={index}',
      '--noprogress',
      *flags,
    ],
    cwd=harness.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    sys.exit(done.stderr)
  own, children = json.loads(done.stdout.splitlines()[-1])
  return {
    'seconds': round(time.monotonic() - start, 1),
    'MiB': round(own / 1024, 1),
    'MiB of a decoder': round(children / 1024, 1),
  }


def asked(index: Index, plants: list[Plant]) -> dict[str, Any]:
  """Returns how often planted clips are found, by frame and as clips."""
  encoder = encoders.from_identity(index.manifest.archive['encoder'])
  queries = PictureQueries(index.retriever, encoder)
  vectors = {
    'frame': [queries.clip(*_frame(one), 50.0) for one in plants],
    'clip': [
      queries.clip(one.piece.clip, one.piece.start, one.piece.end)
      for one in plants
    ],
  }
  found: dict[str, Any] = {}
  for kind, rows in vectors.items():
    lists = index.search_encoded(np.stack(rows), k=5)
    right, overlaps, lengths = 0, [], []
    for one, hits in zip(plants, lists, strict=True):
      right += hits[0].video_id == one.video
      mine = next((hit for hit in hits if hit.video_id == one.video), None)
      overlaps.append(0.0 if mine is None else _overlap(mine, one))
      if mine is not None:
        lengths.append(mine.moments[0].end - mine.moments[0].start)
    found[kind] = {
      'right video first': right,
      'moments': sum(value >= _ENOUGH for value in overlaps),
      'median seconds': round(statistics.median(lengths), 1),
    }
  return found


def _frame(one: Plant) -> tuple[str, float, float]:
  middle = (one.piece.start + one.piece.end) / 2
  return one.piece.clip, middle, middle + 0.02


def _overlap(hit: Hit, one: Plant) -> float:
  first = hit.moments[0]
  return float(
    temporal_iou(
      np.array([first.start, first.end]), np.array([one.start, one.end])
    )
  )


def main() -> None:
  """Makes the videos, indexes them in each way, and prints what is found."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--videos', required=True)
  parser.add_argument('--seconds', type=float, default=7200.0)
  parser.add_argument('--long', type=int, default=6)
  parser.add_argument('--plants', type=int, default=30)
  parser.add_argument('--parts', default='20,60,180')
  parser.add_argument('--retrievers', default='tf_prvr,best_frame')
  parser.add_argument('--encoder', default='embedded')
  options = parser.parse_args()
  clips = sorted(
    path
    for path in pathlib.Path(options.videos).iterdir()
    if path.suffix in ('.mp4', '.avi', '.mov', '.mkv', '.webm')
  )
  with tempfile.TemporaryDirectory() as place:
    root = pathlib.Path(place)
    for name in ('long', 'short'):
      (root / name).mkdir()
    plants, pieces = plant(
      root / 'long',
      clips,
      plants=options.plants,
      videos=options.long,
      seconds=options.seconds,
    )
    for number, piece in enumerate(pieces):
      write(root / 'short' / f'{number}.mkv', [piece])
    for retriever in options.retrievers.split(','):
      for part in options.parts.split(','):
        flags = (
          f'--encoder={options.encoder}',
          f'--retriever={retriever}',
          f'--config.archive.part_seconds={part}',
        )
        index = root / f'{retriever}_{part}'
        of_short = root / f'{retriever}_{part}_short'
        row = {
          'retriever': retriever,
          'part seconds': float(part),
          'plants': len(plants),
          'long': indexed(root / 'long', index, *flags),
          'short': indexed(root / 'short', of_short, *flags),
          **asked(Index.open(index), plants),
        }
        print(json.dumps(row), flush=True)


if __name__ == '__main__':
  main()
