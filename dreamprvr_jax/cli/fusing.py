"""--mode=fuse: the weighted sum of the scores of several retrievers."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.cli import console, score_files
from dreamprvr_jax.cli.score_files import Scores
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.metrics import retrieval
from dreamprvr_jax.metrics.ranks import ranks_of

# What the second retriever's weight is chosen from on a validation split.
CANDIDATES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0)


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The flags of fuse; see `options.py`."""

  scores: str
  weights: str
  val_scores: str
  out: str


def run(arguments: Arguments) -> int:
  """Prints the metrics of each retriever and of the sum, and may write the sum.

  Raises:
    UserError: If a file cannot be read or is about another split, or the
      weights do not fit.
  """
  files = score_files.paths('scores', arguments.scores)
  if len(files) < 2:
    raise UserError(f'--scores names one file, {files[0]}; a sum needs more')
  if bool(arguments.weights) == bool(arguments.val_scores):
    raise UserError(
      'give either --weights, or --val_scores to choose the weight of the '
      'second retriever on'
    )
  if arguments.val_scores:
    weights = _chosen(arguments.val_scores, files)
  else:
    weights = _weights(arguments.weights, len(files))
  parts = _read(files)
  first = parts[0]
  fused = _sum(parts, weights)
  rows = {
    f'{weight:g} x {part.path}': _metrics(part.scores, first)
    for weight, part in zip(weights, parts, strict=True)
  }
  rows['the sum'] = _metrics(fused, first)
  console.say(
    f'{len(first.queries):,} queries among {len(first.videos):,} videos'
  )
  console.say(retrieval.format_table(rows, console.TABLE_COLUMNS))
  if arguments.out:
    score_files.write(
      dataclasses.replace(
        first,
        path=arguments.out,
        scores=fused,
        seedless=all(part.seedless for part in parts),
      )
    )
    console.say(f'scores: {arguments.out}')
  return 0


def _read(files: Sequence[str]) -> list[Scores]:
  first = score_files.read(files[0])
  return [first, *(score_files.read_like(path, first) for path in files[1:])]


def _weights(text: str, count: int) -> list[float]:
  """Returns the weights in a flag.

  Raises:
    UserError: If they are not `count` finite numbers.
  """
  try:
    found = [float(part) for part in text.split(',')]
  except ValueError:
    found = []
  if len(found) != count or not np.isfinite(found).all():
    raise UserError(
      f'--weights={text} is not one number for each of the {count} files of '
      '--scores, separated by commas'
    )
  return found


def _chosen(text: str, files: Sequence[str]) -> list[float]:
  """Returns the weights 1 and that of the second retriever with the best SumR
  on the validation split; prints the SumR of each.

  Raises:
    UserError: If there are not two files, or one cannot be used.
  """
  on_val = score_files.paths('val_scores', text)
  if len(files) != 2 or len(on_val) != 2:
    raise UserError(
      f'--scores names {len(files)} files and --val_scores {len(on_val)}; a '
      'weight is chosen for two retrievers: give two each, in the same order'
    )
  parts = _read(on_val)
  found = {
    weight: _metrics(_sum(parts, (1.0, weight)), parts[0])['SumR']
    for weight in CANDIDATES
  }
  shown = ', '.join(
    f'{weight:g}: {value:.1f}' for weight, value in found.items()
  )
  console.say(f'SumR of the sum on {text}, by weight of the second: {shown}')
  best = max(found, key=lambda weight: found[weight])
  if best == CANDIDATES[0]:
    console.say(f'{files[1]} adds nothing on the validation split')
  if best == CANDIDATES[-1]:
    console.say(
      f'the largest weight, {best:g}, is the best; a larger one may be better: '
      'try --weights'
    )
  return [1.0, best]


def _sum(
  parts: Sequence[Scores], weights: Sequence[float]
) -> Float[np.ndarray, 'n v']:
  total = np.zeros(parts[0].scores.shape, np.float64)
  for part, weight in zip(parts, weights, strict=True):
    total += weight * part.scores
  return total.astype(np.float32)


def _metrics(
  scores: Float[np.ndarray, 'n v'], first: Scores
) -> dict[str, float]:
  return retrieval.summary(ranks_of(scores, first.right))
