"""Metrics of a run as JSON lines and for TensorBoard."""

import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from dreamprvr_jax import folders

_log = logging.getLogger(__name__)

METRICS_FILE = 'metrics.jsonl'
TENSORBOARD = 'tensorboard'


def read_rows(workdir: os.PathLike[str] | str) -> list[dict[str, Any]]:
  """Returns the rows that a run has logged so far; none without a file.

  A last line that a killed run left half written is left out, and so is any
  other damaged line, with a warning.
  """
  path = pathlib.Path(workdir) / METRICS_FILE
  try:
    # Bytes that are not UTF-8 make a line that is not JSON.
    lines = path.read_bytes().decode('utf-8', 'replace').split('\n')
  except FileNotFoundError:
    return []
  rows = []
  for number, line in enumerate(lines, 1):
    row = _row(line)
    if row is not None:
      rows.append(row)
    elif number < len(lines):
      _log.warning('%s:%d is damaged and left out', path, number)
  return rows


def _row(line: str) -> dict[str, Any] | None:
  """Returns the row of a line; None if it is damaged."""
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return None
  if isinstance(row, dict) and 'kind' in row and 'step' in row:
    return row
  return None


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
    kept = [row for row in read_rows(root) if row['step'] <= from_step]
    path = root / METRICS_FILE
    folders.write_text(path, ''.join(json.dumps(row) + '\n' for row in kept))
    self._file = path.open('a', encoding='utf-8')
    # Slow to import, and only training needs it.
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
