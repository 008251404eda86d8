"""Rows of cells as text."""

from collections.abc import Sequence
from typing import Any


def aligned(rows: Sequence[tuple[Any, ...]]) -> str:
  """Returns rows of cells as aligned columns."""
  cells = [[str(cell) for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  return '\n'.join(
    '  '.join(
      cell.ljust(width) for cell, width in zip(row, widths, strict=True)
    ).rstrip()
    for row in cells
  )
