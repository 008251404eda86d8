"""--mode=compare: whether two retrievers differ on the same queries."""

import dataclasses

import numpy as np
from jaxtyping import Int

from dreamprvr_jax import folders
from dreamprvr_jax.cli import columns, console, score_files
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.metrics import paired
from dreamprvr_jax.metrics.ranks import ranks_of
from dreamprvr_jax.metrics.retrieval import RECALLS

# A difference beyond this many standard errors is called one.
_ERRORS = 2


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of compare; see `options.py`."""

  scores: str
  against: str
  out: str


def run(arguments: Arguments) -> int:
  """Prints the means of both sides, their difference and its standard errors.

  Raises:
    UserError: If a file cannot be read, or is about other queries or videos.
  """
  sides = [_paths(arguments, name) for name in ('scores', 'against')]
  first = score_files.read(sides[0][0])
  ours, theirs = ([_ranks(path, first) for path in side] for side in sides)
  metrics = paired.difference(ours, theirs, first.right)
  videos = len(np.unique(first.right))
  console.say(
    f'{len(first.queries):,} queries of {videos:,} videos, among '
    f'{len(first.videos):,}; runs: {len(ours)} against {len(theirs)}'
  )
  rows: list[tuple[str, ...]] = [('', *RECALLS)]
  for name, key in (
    ('scores', 'ours'),
    ('against', 'theirs'),
    ('difference', 'difference'),
    ('  standard error over queries', 'over_queries'),
    ('  standard error over runs', 'over_runs'),
  ):
    values = [metrics[metric][key] for metric in RECALLS]
    rows.append(
      (name, *('-' if x is None else f'{x:.1f}'.rjust(6) for x in values))
    )
  console.say(columns.aligned(rows))
  console.say(_sentence(metrics['SumR']))
  if arguments.out:
    content = {
      'scores': sides[0],
      'against': sides[1],
      'queries': len(first.queries),
      'videos': videos,
      'metrics': metrics,
    }
    folders.write_json(arguments.out, content)
    console.say(f'written: {arguments.out}')
  return 0


def _paths(arguments: Arguments, flag: str) -> list[str]:
  """Returns the files that a flag names.

  Raises:
    UserError: If it names none.
  """
  paths = [path for path in getattr(arguments, flag).split(',') if path]
  if not paths:
    raise UserError(
      f'--{flag} names no file; give what evaluate --scores wrote'
    )
  return paths


def _ranks(path: str, first: score_files.Scores) -> Int[np.ndarray, ' n']:
  """Returns the rank of each query's own video by a file.

  Raises:
    UserError: If it cannot be read, or has other queries or videos than the
      first file.
  """
  found = score_files.read(path)
  for name in ('queries', 'videos'):
    here, there = getattr(found, name), getattr(first, name)
    if here != there:
      raise UserError(
        f'{path} and {first.path} have other {name} ({len(here):,} and '
        f'{len(there):,}), or another order of them; compare scores of one '
        'split, evaluated with the same data keys'
      )
  if not np.array_equal(found.right, first.right):
    raise UserError(
      f'{path} and {first.path} have other right videos; evaluate both with '
      'the same captions'
    )
  return ranks_of(found.scores, found.right)


def _sentence(found: dict[str, float | None]) -> str:
  """Returns what can be said about SumR."""
  change = found['difference']
  errors = [found[key] for key in ('over_queries', 'over_runs')]
  known = [error for error in errors if error is not None]
  assert change is not None
  if not known:
    return 'one video and one run each: nothing can be said'
  way = 'more' if change > 0 else 'less'
  if abs(change) > _ERRORS * max(known):
    return (
      f'SumR is {way} by {abs(change):.1f}, beyond twice the larger standard '
      'error'
    )
  return (
    f'SumR is {way} by {abs(change):.1f}, within twice the larger standard '
    'error: that may be chance'
  )
