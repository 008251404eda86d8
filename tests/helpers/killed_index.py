"""Changes of an index that are killed, each in a process of its own.

`python -m tests.helpers.killed_index FOLDER SEED KILLS HOW` prints a line of
JSON for each kill. It forks its children before JAX has started, so videos are
not encoded: their rows are given.
"""

import dataclasses
import functools
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamprvr_jax import folders
from dreamprvr_jax.archive.index import checksums, compaction, layout, writer
from dreamprvr_jax.archive.index.manifest import MANIFEST, SEGMENTS
from dreamprvr_jax.archive.index.store import Store
from tests.helpers.searching import made, retriever, videos_of

# The code whose lines are counted.
_CODE = str(pathlib.Path(layout.__file__).parent), str(folders.__file__)
_DATA = made(40, 1)


def _rows_of(_, batches, mesh):
  """Yields rows in place of `encoding.encoded_rows`."""
  del mesh
  for batch in batches():
    real = batch['video_mask']
    frames, mask = batch['frame_features'][real], batch['frame_mask'][real]
    clips = batch['clip_features'][real]
    count = len(clips)
    edges = np.linspace(0, 1, clips.shape[1] + 1, dtype=np.float32)
    borders = np.linspace(0, 1, mask.shape[1] + 1, dtype=np.float32)
    yield {
      'clip_edges': np.tile(edges, (count, 1)),
      'frame_edges': np.tile(borders, (count, 1)),
      'frame_mask': mask,
      'starts': np.zeros(count),
      'cores': np.tile(np.array([0, 1], np.float32), (count, 1)),
      'clip_tokens': clips,
      'frame_tokens': frames,
    }


def _create(place: pathlib.Path, first: int, last: int) -> None:
  videos = videos_of(_DATA, range(first, last))
  writer.create(place, retriever(), videos, tokens='float16+int8')


def _append(place: pathlib.Path, first: int, last: int) -> None:
  writer.append(place, retriever(), videos_of(_DATA, range(first, last)))


def _add(place: pathlib.Path) -> None:
  """Adds videos one by one: a new one, and one in place of a former."""
  with writer.open_segment(place, retriever()) as segment:
    for number, name in ((30, 'v30'), (31, 'v2')):
      videos = videos_of(_DATA, [number])
      rows = list(_rows_of(None, videos.batches, None))
      rows[0]['durations'] = np.ones(1)
      segment.add(name, rows, {'path': f'{name}.mp4'})


def _prepared(place: pathlib.Path) -> None:
  """Makes the index that is changed: three segments with removed videos."""
  _create(place, 0, 10)
  _append(place, 10, 18)
  _add(place)
  compaction.remove(place, ['v3', 'v4', 'v12'])


CHANGES: dict[str, Callable[[pathlib.Path], Any]] = {
  'first build': lambda place: _create(place, 0, 12),
  'build': lambda place: _create(place, 5, 15),
  'append': lambda place: _append(place, 20, 29),
  'add': _add,
  'remove': lambda place: compaction.remove(place, ['v5', 'v6', 'v30']),
  'rename': lambda place: compaction.rename(
    place, {'v7': {'id': 'other', 'path': 'other.mp4'}}
  ),
  'compact': compaction.compact,
}


def state(place: pathlib.Path) -> Any:
  """Returns all that an index says: ids, sources and arrays of its videos;
  None if there is none. Checks all files."""
  if not (place / MANIFEST).exists():
    return None
  store = Store(place)
  for folder, files in store.manifest.files.items():
    checksums.check(place / folder, files)
  rows = np.flatnonzero(store.items >= 0)
  found = {
    name: store.take(name, rows).tobytes().hex()
    for name in layout.array_specs(store.manifest)
  }
  return found, [store.ids[row] for row in rows], store.sources()


def leftovers(place: pathlib.Path) -> list[str]:
  """Returns what an index has beside what its manifest names, in vain."""
  named = {segment.name for segment in Store(place).manifest.segments}
  found = [p.name for p in (place / SEGMENTS).iterdir() if p.name not in named]
  return found + [p.name for p in place.iterdir() if 'partial' in p.name]


def _forked(work: Callable[[], Any]) -> int:
  """Runs a function in a child; returns its process."""
  sys.stdout.flush()
  child = os.fork()
  if child:
    return child
  code = 1
  try:
    work()
    code = 0
  except BaseException:
    traceback.print_exc()
  finally:
    os._exit(code)


def _ended(child: int) -> int:
  """Waits for a child; returns its exit code, or its signal as -9."""
  return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _traced(work: Callable[[], Any], last: int) -> int:
  """Runs a function; returns how many lines of the code it ran, and kills this
  process at line number `last`, if not negative."""
  count = 0

  def line(frame, event, _):
    nonlocal count
    if event == 'line':
      if count == last:
        os.kill(os.getpid(), signal.SIGKILL)
      count += 1
    return line

  def call(frame, event, _):
    return line if frame.f_code.co_filename.startswith(_CODE) else None

  sys.settrace(call)
  try:
    work()
  finally:
    sys.settrace(None)
  return count


def _counted(work: Callable[[], Any]) -> int:
  """Returns the lines that a function runs, in a child."""
  read, write = os.pipe()
  child = _forked(lambda: os.write(write, f'{_traced(work, -1)}'.encode()))
  assert _ended(child) == 0
  lines = int(os.read(read, 100))
  os.close(read)
  os.close(write)
  return lines


@dataclasses.dataclass(frozen=True)
class Course:
  """A change that nobody kills.

  Attributes:
    start: The index that is changed, or an empty folder.
    before: Its state.
    after: Its state when the change is done.
    lines: Lines of the code that the change runs.
    seconds: How long it takes in a child.
  """

  start: pathlib.Path
  before: Any
  after: Any
  lines: int
  seconds: float


def _course(name: str, start: pathlib.Path, place: pathlib.Path) -> Course:
  change = functools.partial(CHANGES[name], place)
  shutil.copytree(start, place)
  before, lines, after = state(place), _counted(change), state(place)
  shutil.rmtree(place)
  shutil.copytree(start, place)
  began = time.monotonic()
  assert _ended(_forked(change)) == 0
  seconds = time.monotonic() - began
  shutil.rmtree(place)
  return Course(start, before, after, lines, seconds)


def _trial(
  name: str, course: Course, place: pathlib.Path, how: str, share: float
) -> dict[str, Any]:
  """Kills a change, and returns what came of it.

  Args:
    name: The change.
    course: What it does if nobody kills it.
    place: A folder to work in, which does not exist.
    how: See `main`.
    share: When, as a share of the lines or of the time.
  """
  shutil.copytree(course.start, place)
  change = functools.partial(CHANGES[name], place)
  if how == 'line':
    last = int(share * course.lines)
    child = _forked(functools.partial(_traced, change, last))
  else:
    child = _forked(change)
    time.sleep(share * course.seconds)
    os.kill(child, signal.SIGKILL)
  code, found = _ended(child), state(place)
  which, again = 'other', 'none'
  if found == course.before:
    which = 'before'
  elif found == course.after:
    which = 'after'
  if which == 'before' and name != 'compact':
    # The same command succeeds.
    is_done = _ended(_forked(change)) == 0 and state(place) == course.after
    again = 'after' if is_done else 'other'
  compaction.compact(place)
  left = leftovers(place)
  shutil.rmtree(place)
  return {
    **{'change': name, 'share': share, 'code': code},
    **{'state': which, 'again': again, 'left': left},
  }


def main(folder: str, seed: str, kills: str, how: str) -> None:
  """Kills changes and prints what came of it.

  Args:
    folder: An empty folder to work in.
    seed: Seed of the moments.
    kills: How often a change is killed.
    how: 'line': at a line of the code; 'clock': after a time.
  """
  writer.encoded_rows = _rows_of
  root, rng = pathlib.Path(folder), random.Random(int(seed))
  base, empty = root / 'base', root / 'empty'
  _prepared(base)
  # Else the first changes would run lines that fill a table.
  checksums.joined(0, 0, 2**20 - 1)
  empty.mkdir()
  courses = {
    name: _course(name, empty if name == 'first build' else base, root / 'own')
    for name in CHANGES
  }
  for number in range(int(kills)):
    name = list(CHANGES)[number % len(CHANGES)]
    # Every other one near the last lines, where the manifest is replaced.
    least = 0.97 if how == 'line' and number % 2 else 0
    share = rng.uniform(least, 1)
    row = _trial(name, courses[name], root / f'{number}', how, share)
    print(json.dumps(row), flush=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
