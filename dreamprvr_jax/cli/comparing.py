"""--mode=compare: whether two retrievers differ on the same queries."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from dreamprvr_jax import folders
from dreamprvr_jax.cli import columns, console, score_files
from dreamprvr_jax.cli.score_files import Scores
from dreamprvr_jax.metrics import paired
from dreamprvr_jax.metrics.ranks import ranks_of
from dreamprvr_jax.metrics.retrieval import RECALLS


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of compare; see `options.py`."""

  scores: str
  against: str
  out: str


@dataclasses.dataclass(frozen=True)
class _Side:
  """The runs of one side: their ranks, and whether they depend on no seed."""

  ranks: list[Int[np.ndarray, ' n']]
  seedless: bool


def run(arguments: Arguments) -> int:
  """Prints the means of both sides, their difference and its standard errors.

  Raises:
    UserError: If a file cannot be read, or is about other queries or videos.
  """
  files = score_files.paths('scores', arguments.scores)
  others = score_files.paths('against', arguments.against)
  first = score_files.read(files[0])
  ours, theirs = _read(files, first), _read(others, first)
  metrics = paired.difference(
    ours.ranks,
    theirs.ranks,
    first.right,
    seedless=(ours.seedless, theirs.seedless),
  )
  videos = len(np.unique(first.right))
  console.say(
    f'{len(first.queries):,} queries of {videos:,} videos, among '
    f'{len(first.videos):,}; runs: {len(files)} against {len(others)}'
  )
  rows: list[tuple[str, ...]] = [('', *RECALLS)]
  for name, key in (
    ('scores', 'ours'),
    ('against', 'theirs'),
    ('difference', 'difference'),
    ('  standard error over queries', 'over_queries'),
    ('  standard error over runs', 'over_runs'),
    ('  half of the 95 % interval', 'half_width'),
  ):
    values = [metrics[metric][key] for metric in RECALLS]
    rows.append(
      (name, *('-' if x is None else f'{x:.1f}'.rjust(6) for x in values))
    )
  console.say(columns.aligned(rows))
  single = [
    flag
    for flag, side in (('--scores', ours), ('--against', theirs))
    if len(side.ranks) == 1 and not side.seedless
  ]
  console.say(_sentence(metrics['SumR'], single))
  if arguments.out:
    content = {
      'scores': files,
      'against': others,
      'queries': len(first.queries),
      'videos': videos,
      'metrics': metrics,
    }
    folders.write_json(arguments.out, content)
    console.say(f'written: {arguments.out}')
  return 0


def _read(paths: Sequence[str], first: Scores) -> _Side:
  ranks, seedless = [], []
  for path in paths:
    is_first = path == first.path
    found = first if is_first else score_files.read_like(path, first)
    ranks.append(ranks_of(found.scores, found.right))
    seedless.append(found.seedless)
  return _Side(ranks, all(seedless))


def _sentence(found: dict[str, float | None], single: Sequence[str]) -> str:
  """Returns what can be said about SumR.

  Args:
    found: What `paired.difference` returns for it.
    single: The flags with one run of a retriever that depends on seeds.
  """
  change, half = found['difference'], found['half_width']
  if half is None:
    return 'all queries are of one video: nothing can be said'
  assert change is not None
  low, high = change - half, change + half
  text = f'SumR: {change:+.1f}, 95 % interval {low:+.1f} to {high:+.1f}: '
  text += 'a difference' if abs(change) > half else 'it may be chance'
  if single:
    text += (
      '. What other seeds would change is not in it: one run of '
      f'{" and of ".join(single)}'
    )
  return text
