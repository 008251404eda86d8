"""--mode=compare: whether two retrievers differ on the same queries."""

import dataclasses

import numpy as np
from jaxtyping import Int

from dreamprvr_jax import folders
from dreamprvr_jax.cli import columns, console, score_files
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
  sides = [
    score_files.paths(flag, getattr(arguments, flag))
    for flag in ('scores', 'against')
  ]
  first = score_files.read(sides[0][0])

  def ranks(path: str) -> Int[np.ndarray, ' n']:
    is_first = path == first.path
    found = first if is_first else score_files.read_like(path, first)
    return ranks_of(found.scores, found.right)

  ours, theirs = (list(map(ranks, side)) for side in sides)
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
