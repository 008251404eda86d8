"""Results that a command prints."""

from collections.abc import Mapping
from typing import Any

import jax

from dreamprvr_jax.metrics.retrieval import RECALLS

# A split with fewer says little.
FEW_QUERIES, FEW_VIDEOS = 50, 20
TABLE_COLUMNS = (*RECALLS, 'MedR')


def say(text: str) -> None:
  """Prints a result, on the main process only."""
  if jax.process_index() == 0:
    print(text, flush=True)


def count_line(metrics: Mapping[str, Any], chosen_by: str) -> str:
  """Returns the line above a table: split, sizes, how the epoch was chosen."""
  return (
    f'split {metrics["split"]}: {metrics["num_queries"]:,} queries, '
    f'{metrics["num_videos"]:,} videos; {chosen_by}'
  )


def warn_of_few(metrics: Mapping[str, Any]) -> None:
  """Prints a warning if a split is too small for its numbers to say much."""
  queries, videos = metrics['num_queries'], metrics['num_videos']
  if queries < FEW_QUERIES or videos < FEW_VIDEOS:
    say(
      f'warning: the split {metrics["split"]} has only {queries:,} queries and '
      f'{videos:,} videos; with fewer than {FEW_QUERIES} queries or '
      f'{FEW_VIDEOS} videos, such numbers are mostly chance'
    )
