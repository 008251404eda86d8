"""What the index command says about folders and the index that follows them."""

import functools
import math
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from dreamprvr_jax.archive.folder.comparison import Plan
from dreamprvr_jax.archive.folder.memory import Unreadable
from dreamprvr_jax.archive.folder.sources import Source
from dreamprvr_jax.archive.videos.files import shown

_SHOWN = 20


def table(files: Iterable[Unreadable], most: int | None = _SHOWN) -> str:
  """Returns a table of the files that could not be read, with the reasons.

  Args:
    files: The files.
    most: How many are shown; None for all.
  """
  rows = sorted((shown(bad.file), bad.reason) for bad in files)
  few = rows[:most]
  width = max((len(name) for name, _ in few), default=0)
  lines = [f'  {name.ljust(width)}  {why}' for name, why in few]
  if len(rows) > len(few):
    lines.append(
      f'  and {len(rows) - len(few):,} more: --mode=inspect --index shows all'
    )
  return '\n'.join(
    ['not readable (tried again when they change, or PyAV does):', *lines]
  )


def lost(folders: Mapping[str, Sequence[Source]]) -> list[str]:
  """Returns the sentences about folders of which no file is there."""
  return [
    f'{folder}: none of its {len(few):,} videos in the index is there; they '
    'stay: if a disk is not mounted, mount it; to take them out, give --gone'
    for folder, few in folders.items()
  ]


def unread(folders: Mapping[str, Sequence[Source]]) -> list[str]:
  """Returns the sentences about folders that cannot be read."""
  return [
    f'{folder} cannot be read; its {len(few):,} videos in the index stay: '
    'change who may read it, or see whether its disk has a fault'
    for folder, few in folders.items()
  ]


def gone(sources: Iterable[Source]) -> list[str]:
  """Returns the sentences about folders that are gone with their videos; none
  about single files of folders that are there."""
  is_there = functools.cache(os.path.isdir)
  counts: Counter[str] = Counter()
  for source in sources:
    above = reversed(pathlib.Path(source.file).parents)
    top = next((path for path in above if not is_there(path)), None)
    if top is not None:
      counts[shown(top)] += 1
  few = [
    f'{folder} is no longer there; its {count:,} videos are taken out of the '
    'index'
    for folder, count in counts.most_common(_SHOWN)
  ]
  if len(counts) > len(few):
    few.append(f'as are those of {len(counts) - len(few):,} more folders')
  return few


def passed(counts: Counter[str]) -> str:
  """Returns a line about files that are no videos; '' if there are none."""
  few = ', '.join(f'{n:,} {ending}' for ending, n in sorted(counts.items()))
  return f'passed over, since these are no videos: {few}' if few else ''


def summary(plan: Plan, done: Mapping[str, int]) -> str:
  """Returns the counts of a command, in one line.

  Args:
    plan: What was to do.
    done: How many files were 'new', 'changed' and 'unreadable'.
  """
  counts = {
    'new': done['new'],
    'changed': done['changed'],
    'moved': len(plan.moved),
    'gone': len(plan.gone),
    'removed on purpose': len(plan.removed),
    'unreadable': done['unreadable'],
    'unchanged': plan.unchanged,
  }
  return ', '.join(f'{count:,} {name}' for name, count in counts.items())


def length(seconds: float) -> str:
  """Returns a time such as '45 s', '12 min' or '3.5 h'; '' if unknown."""
  if not math.isfinite(seconds):
    return ''
  if seconds < 100:
    return f'{seconds:.0f} s'
  if seconds < 100 * 60:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:,.1f} h'


def size(count: int) -> str:
  """Returns a number of bytes with a unit in which it is at least 1."""
  value, units = float(count), ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  while value >= 1024 and len(units) > 1:
    value /= 1024
    units.pop(0)
  return (
    f'{value:,.0f} {units[0]}'
    if value >= 100 or units[0] == 'bytes'
    else (f'{value:.1f} {units[0]}')
  )
