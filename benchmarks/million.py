"""One million videos on one machine: building, searching, moments.

python benchmarks/million.py --index=DIR --out=benchmarks/results/million.jsonl

1,000,000 made videos (`hard_queries.py`) of 8 clip and 32 frame tokens of width
384, stored as int8, with inverted lists for the first pass. Takes an hour or
two and 25 GB of disk. Four parts, each in a process of its own:

- write: the tokens are made by two threads and written part by part; the
  seconds of both are apart.
- lists: the lists are made, and probes and depth are measured for --recall.
- answer: the exact best ten of each query, by plain NumPy over the stored
  tokens, block by block.
- search: recall@10 against these, the median and the 99th percentile of one
  query at a time: without moments, with the moments of the hits, and with
  moments where copies of a video are put together, as the command does; memory.

Prints one JSON line, or adds it to --out. Memory is that of the process: the
most that it had (`peak`), the most of its own (`anonymous`) and of mapped files
(`file`), in GiB; what the kernel keeps of files is not in it. DIR keeps what a
part has finished: if the command is stopped, it goes on with the next part, and
if all was there, it only searches again.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import hard_queries
import harness
import numpy as np
import search_archives
from processes import LeftOutError, Watch, memory, read_from_disk, stream
from search_rows import recall, timings

from dreamprvr_jax import folders
from dreamprvr_jax.archive.index.layout import stored_bytes
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.cli import provenance

_DONE = 'million.json'
# Seconds of a part, and of the timed searches, at most.
_PATIENCE, _TIMED = 24 * 3600, 300.0
# The bars: minutes of building, GiB, recall, milliseconds.
_BARS = {
  'build_minutes': 40,
  'build_peak_gib': 8,
  'search_peak_gib': 8,
  'recall_at_10': 0.98,
  'p50_ms': 100,
  'p99_ms': 300,
}


def _gib(found: dict[str, float]) -> dict[str, float]:
  return {name: round(value / 2**30, 2) for name, value in found.items()}


def recipe_of(options: argparse.Namespace) -> hard_queries.Recipe:
  """Returns the recipe of the archive."""
  tokens = options.clips + options.frames
  return hard_queries.Recipe(
    options.videos, tokens, options.width, options.seed, options.shots
  )


def write(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """Writes the index; yields seconds and memory."""
  harness.keep_freed_pages()
  recipe = recipe_of(options)
  branches = hard_queries.Branches(recipe.tokens, options.clips)
  place = options.index / search_archives.INDEX
  with Watch() as watch:
    seconds = search_archives.write_index(
      place, recipe, branches, tokens=options.tokens
    )
  manifest = Store(place).manifest
  size = round(stored_bytes(manifest) / options.videos)
  yield {**seconds, 'stored_bytes_per_video': size, 'gib': _gib(watch.most)}


def lists(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """Makes the lists; yields seconds, memory and settings."""
  harness.keep_freed_pages()
  retriever = search_archives.retriever_of_made(options.width)
  place = options.index / search_archives.INDEX
  with Watch() as watch:
    found = search_archives.make_lists(
      place, retriever, options.recall, options.memory * 2**30
    )
  yield {**found, 'gib': _gib(watch.most)}


def answer(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """Computes the exact answers; yields the seconds."""
  began = time.perf_counter()
  queries, _ = recipe_of(options).queries(options.kind, options.queries)
  model = search_archives.retriever_of_made(options.width).model
  search_archives.answer(options.index, {options.kind: queries}, model)
  yield {'exact_seconds': round(time.perf_counter() - began, 1)}


def search(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """Searches; yields recall, times and memory."""
  harness.keep_freed_pages()
  began = time.perf_counter()
  retriever = search_archives.retriever_of_made(options.width)
  index = search_archives.Index.open(
    options.index / search_archives.INDEX, retriever
  )
  queries, exact = search_archives.questions(options.index)[options.kind]
  how = None if options.first_pass == 'none' else options.first_pass
  find = lambda few, k: index.searcher.search(few, k, first_pass=how)[1]
  find(queries[:1], search_archives.BEST)
  opened = round(time.perf_counter() - began, 1)
  ready = memory()
  with Watch() as watch:
    found = [find(query[None], search_archives.BEST) for query in queries]
    before = read_from_disk()
    alone = timings(find, queries, 1, _TIMED)
    read = (read_from_disk() - before) / alone['timed']
    hits = lambda few, k, duplicates=False: index.search_encoded(
      few, k, first_pass=how, duplicates=duplicates
    )
    copies = lambda few, k: hits(few, k, duplicates=True)
    moments = timings(copies, queries, 1, _TIMED)
    whole = timings(hits, queries, 1, _TIMED)
  shown = hits(queries[:1], search_archives.BEST)[0]
  yield {
    'first_second_hit': opened,
    'recall_at_10': recall(exact, np.concatenate(found)),
    'batch_1': alone,
    'batch_1_with_moments': moments,
    'batch_1_without_copies': whole,
    'moments_of_a_hit': float(np.mean([len(hit.moments) for hit in shown])),
    'read_from_disk_kb_per_query': round(read / 1000, 1),
    'ready_gib': _gib(ready),
    'gib': _gib(watch.most),
  }


def parts(options: argparse.Namespace) -> dict[str, Any]:
  """Runs the parts that are not finished; returns what all of them found.

  Raises:
    LeftOutError: If a part fails.
  """
  options.index.mkdir(parents=True, exist_ok=True)
  path = options.index / _DONE
  asked = {name: getattr(options, name) for name in _ASKED}
  done = json.loads(path.read_text()) if path.exists() else {'asked': asked}
  if done['asked'] != asked:
    raise SystemExit(
      f'{options.index} was made with {done["asked"]}, not with {asked}; give '
      'another --index'
    )
  names = ['write', 'lists', 'answer', 'search']
  if options.first_pass != 'lists':
    names.remove('lists')
  for name in names:
    if name in done and name != 'search':
      continue
    print(f'{name} ...', file=sys.stderr, flush=True)
    (done[name],) = stream('million', name, options, seconds=_PATIENCE)
    folders.write_json(path, done)
  return {name: done[name] for name in names}


# What an index was made for.
_ASKED = (
  *('videos', 'clips', 'frames', 'width', 'seed', 'shots', 'tokens'),
  *('kind', 'queries', 'recall', 'memory'),
)


def against_bars(found: dict[str, Any]) -> dict[str, Any]:
  """Returns the figures that the bars are for."""
  built = [found[name] for name in ('write', 'lists') if name in found]
  seconds = sum(
    one.get('write_seconds', 0) + one.get('lists_seconds', 0) for one in built
  )
  searched = found['search']
  return {
    'build_minutes': round(seconds / 60, 2),
    'build_peak_gib': max(one['gib']['peak'] for one in built),
    'search_peak_gib': searched['gib']['peak'],
    'recall_at_10': searched['recall_at_10'],
    'p50_ms': searched['batch_1']['p50_ms'],
    'p99_ms': searched['batch_1']['p99_ms'],
  }


def parsed() -> argparse.Namespace:
  """Returns the options of the command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('--index', type=pathlib.Path, required=True, help='a folder')
  add('--videos', type=int, default=1_000_000)
  add('--clips', type=int, default=8, help='clip tokens of a video')
  add('--frames', type=int, default=32, help='frame tokens of a video')
  add('--width', type=int, default=384, help='of a token')
  add('--seed', type=int, default=0)
  add('--shots', type=int, default=4, help='of a video; 0: no alike tokens')
  add('--tokens', default='int8', help='how they are stored')
  add('--kind', default='hard', choices=hard_queries.KINDS, help='of queries')
  add('--queries', type=int, default=100)
  add('--first_pass', default='lists', choices=('lists', 'none'))
  add('--recall', type=float, default=0.98, help='that lists shall reach')
  add('--memory', type=float, default=8, help='GiB to make the lists in')
  add('--out', help='a file that the JSON line is added to')
  return parser.parse_args()


def main() -> int:
  """Runs the parts, prints the result."""
  options = parsed()
  flags = [x for x in sys.argv[1:] if not x.startswith(('--index', '--out'))]
  try:
    found = parts(options)
  except LeftOutError as error:
    print(f'million.py: {error}', file=sys.stderr)
    return 1
  figures = against_bars(found)
  line = {
    **provenance.environment(),
    'command': ' '.join(['benchmarks/million.py', *flags]),
    **figures,
    **found,
  }
  if options.out:
    with open(options.out, 'a') as file:
      print(json.dumps(line), file=file)
  else:
    print(json.dumps(line))
  for name, bar in _BARS.items():
    least = 'least' if name == 'recall_at_10' else 'most'
    print(f'{name}: {figures[name]:,} (at {least} {bar})', file=sys.stderr)
  return 0


if __name__ == '__main__':
  sys.exit(main())
