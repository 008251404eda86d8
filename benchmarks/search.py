"""Searches of made archives and of encoded text, beside other programs.

python benchmarks/search.py --videos=2000,20000,200000 --out=rows.jsonl \\
  --plot=search.png

For each archive and each way to search: recall@10 against the exact search, for
queries near a token, with a modality gap, and hard ones (`hard_queries.py`);
for the captions of a model that is trained here, as an archive of its own. The
median and the 99th percentile of a batch of 1 and 64 queries in milliseconds;
bytes of a video in memory and on disk; seconds to build; for programs that read
all tokens, the bytes that they read per second, as a share of the bandwidth of
a sum over a large array in the same run. Queries are encoded before, and no
moments are computed: only the search is timed.

Each row is measured in a process of its own. A JSON line is written as soon as
it is known, to --out or else printed; a table is printed at the end.
`search_report.py` makes the table and the picture again. The archives in
--folder are used again by the next run.
"""

import argparse
import contextlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import hard_queries
import harness
import search_archives
import search_report
import search_text
from processes import LeftOutError, stream
from search_rows import NAMES, Job

from dreamprvr_jax.cli import provenance

# One clip token comes to so many tokens.
_OF_A_CLIP = 5
# Videos from which on an archive has fewer tokens of each by default.
_MANY = 100_000
# Flags that only say where files are.
_PLACES = ('folder', 'out', 'plot')


def archives(
  root: pathlib.Path, options: argparse.Namespace
) -> Iterator[tuple[str, pathlib.Path]]:
  """Makes the archives one by one; yields their names and folders."""
  tokens = options.tokens or [
    40 if videos >= _MANY else 160 for videos in options.videos
  ]
  if len(tokens) != len(options.videos):
    raise SystemExit('give as many numbers of --tokens as of --videos')
  for videos, count in zip(options.videos, tokens, strict=True):
    recipe = hard_queries.Recipe(
      videos, count, options.width, options.seed, options.shots
    )
    clips = options.clips or max(count // _OF_A_CLIP, 1)
    branches = hard_queries.Branches(count, clips)
    name = f'{videos:,} videos of {count} tokens'
    folder = root / f'made_{videos}_{count}'
    search_archives.make(folder, recipe, branches, options.queries)
    yield name, folder
  if options.steps:
    folder = root / 'text'
    search_text.make(
      folder,
      videos=options.text_videos,
      width=options.width,
      steps=options.steps,
      count=options.queries,
      model=options.model,
    )
    yield f'{options.text_videos:,} encoded videos', folder


def rows(name: str, job: Job, seconds: float) -> Iterator[dict[str, Any]]:
  """Yields the lines of a row; one that says why, if it is left out."""
  try:
    yield from stream('search_rows', 'measure', name, job, seconds=seconds)
  except LeftOutError as error:
    yield {'row': name, 'left_out': str(error).rstrip('.')}


def parsed() -> argparse.Namespace:
  """Returns the options of the command line."""
  numbers = lambda text: tuple(int(x) for x in text.split(',') if x)
  shares = lambda text: tuple(float(x) for x in text.split(',') if x)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('--videos', type=numbers, default=(2000,), help='of each archive')
  add('--tokens', type=numbers, default=(), help='of a video of each archive')
  add('--clips', type=int, default=0, help='clip tokens; 0: every fifth')
  add('--width', type=int, default=384, help='of a token')
  add('--shots', type=int, default=4, help='of a video; 0: no alike tokens')
  add('--seed', type=int, default=0, help='of the archives')
  add('--queries', type=int, default=200, help='of each kind')
  add('--steps', type=int, default=100, help='of the training; 0: no text')
  add('--text_videos', type=int, default=2000, help='of the text archive')
  add('--model', default='dreamprvr', help='that is trained')
  add('--rows', default=','.join(NAMES), help='ways to search')
  add('--recall', type=shares, default=(0.98, 0.99), help='of the lists')
  add('--probes', type=numbers, default=(32, 128), help='lists of FAISS')
  add('--found', type=int, default=1000, help='tokens of a branch, by FAISS')
  add('--depth', type=int, default=100, help='videos scored exactly after it')
  add('--memory', type=float, default=16, help='GB that a row may take')
  add('--seconds', type=float, default=10, help='of a timed batch size')
  add('--row_seconds', type=float, default=3600, help='of a row')
  add('--folder', help='for archives and what other programs build')
  add('--out', help='a file that the JSON lines are added to')
  add('--plot', type=pathlib.Path, help='a picture of recall against time')
  options = parser.parse_args()
  options.rows = options.rows.split(',')
  unknown = sorted(set(options.rows) - set(NAMES))
  if unknown:
    parser.error(f'--rows names {unknown[0]!r}; choose of {", ".join(NAMES)}')
  return options


def main() -> None:
  """Makes archives, measures the rows, prints the results."""
  options = parsed()
  peak = harness.bandwidth()
  # Without what only says where files are.
  flags = [
    item
    for item in sys.argv[1:]
    if item.lstrip('-').partition('=')[0] not in _PLACES
  ]
  shared = {
    **provenance.environment(),
    'command': ' '.join(['benchmarks/search.py', *flags]),
    'bandwidth_gb_per_second': round(peak / 1e9, 2),
  }
  lines = []
  with contextlib.ExitStack() as stack:
    root = options.folder
    if root is None:
      root = stack.enter_context(tempfile.TemporaryDirectory())
    out = sys.stdout
    if options.out:
      out = stack.enter_context(open(options.out, 'a'))
    for archive, folder in archives(pathlib.Path(root), options):
      place = folder / 'others'
      place.mkdir(exist_ok=True)
      job = Job(
        folder=folder,
        place=place,
        memory=options.memory * 2**30,
        bandwidth=peak,
        recalls=options.recall,
        probes=options.probes,
        found=options.found,
        depth=options.depth,
        seconds=options.seconds,
      )
      facts = search_archives.facts_of(folder)
      for name in options.rows:
        for found in rows(name, job, options.row_seconds):
          load = round(os.getloadavg()[0], 1)
          line = {
            **shared,
            'archive': archive,
            'of': facts,
            'load': load,
            **found,
          }
          lines.append(line)
          print(json.dumps(line), file=out, flush=True)
  print(search_report.table(lines))
  if options.plot:
    search_report.plot(lines, options.plot)


if __name__ == '__main__':
  sys.exit(main())
