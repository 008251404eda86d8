"""Metrics of a run as JSON lines and for TensorBoard."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

METRICS_FILE = 'metrics.jsonl'
TENSORBOARD = 'tensorboard'


def read_rows(workdir: os.PathLike[str] | str) -> list[dict[str, Any]]:
  """Returns the rows that a run has logged so far; none without a file.

  A last line that a killed run left half written is passed over.
  """
  path = pathlib.Path(workdir) / METRICS_FILE
  if not path.exists():
    return []
  rows = []
  for line in path.read_text(encoding='utf-8').splitlines():
    try:
      rows.append(json.loads(line))
    except ValueError:
      continue
  return rows


class MetricLog:
  """Appends rows; only the first process writes."""

  def __init__(self, workdir: os.PathLike[str] | str, from_step: int = 0):
    """Opens the log of a run that is at `from_step`.

    Rows of later steps come from a run that was killed after its last
    checkpoint: they will be written again, so they are dropped.
    """
    self._file = self._board = None
    if jax.process_index() != 0:
      return
    root = pathlib.Path(workdir)
    root.mkdir(parents=True, exist_ok=True)
    kept = [row for row in read_rows(root) if row.get('step', 0) <= from_step]
    path = root / METRICS_FILE
    partial = path.with_suffix('.tmp')
    partial.write_text(
      ''.join(json.dumps(row) + '\n' for row in kept), encoding='utf-8'
    )
    partial.replace(path)
    self._file = path.open('a', encoding='utf-8')
    # Slow to import: only a run that trains pays for it.
    from tensorboardX import SummaryWriter

    self._board = SummaryWriter(
      str(root / TENSORBOARD), purge_step=from_step + 1, flush_secs=30
    )

  def write(self, kind: str, row: Mapping[str, Any]) -> None:
    """Writes one row, which must have `step`.

    Args:
      kind: 'train', 'eval' or 'start'.
      row: Numbers and strings; only the numbers go to TensorBoard.
    """
    if self._file is None or self._board is None:
      return
    self._file.write(json.dumps({'kind': kind, **row}) + '\n')
    self._file.flush()
    for name, value in row.items():
      if isinstance(value, float):
        self._board.add_scalar(f'{kind}/{name}', value, row['step'])

  def close(self) -> None:
    """Closes both logs."""
    if self._file is not None:
      self._file.close()
    if self._board is not None:
      self._board.close()
