"""Results that a command prints."""

from collections.abc import Mapping
from typing import Any

import jax

TABLE_COLUMNS = ('R@1', 'R@5', 'R@10', 'R@100', 'SumR', 'MedR')


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
