"""Rows of CSV files: tables with the names of their columns in the first row.

Columns are separated by commas, or by semicolons or tabs if the first row has
those instead, as spreadsheets of many countries write. Names of columns are
read in any case. An empty cell is the same as a missing one.
"""

import csv
import io
import os
from collections.abc import Iterator, Mapping

from etils import epath

from data_pipeline.errors import DataError
from dreamprvr_jax import text

ENDINGS = ('.csv', '.tsv')
_SEPARATORS = ',;\t'
# Other names of columns that people use.
_NAMES = {
  'sentence': 'text',
  'caption': 'text',
  'captions': 'text',
  'description': 'text',
  'desc': 'text',
  'video_id': 'video',
  'filename': 'file',
  'path': 'file',
}


def is_table(path: os.PathLike[str] | str) -> bool:
  """Returns whether a file is a table, by its ending; it may be gzipped."""
  name = os.fspath(path).lower().removesuffix('.gz')
  return name.endswith(ENDINGS)


def read_table(
  path: os.PathLike[str] | str, names: Mapping[str, str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
  """Yields (number of the line, {column: cell}) of each row with a cell.

  Args:
    path: The file, in UTF-8.
    names: Further {name of a column: the name that is meant}.

  Raises:
    DataError: If it has no row of names, a name comes twice, or a row has more
      cells than there are names; or if it is no CSV.
    TextError: If it is not UTF-8.
    OSError: If it cannot be read.
  """
  content = text.read(epath.Path(path))
  first = content.partition('\n')[0]
  separator = max(_SEPARATORS, key=first.count)
  # Rows end where the file says; cells may contain other line ends.
  reader = csv.reader(
    io.StringIO(content, newline=''), delimiter=separator, strict=True
  )
  columns: list[str] = []
  known = {**_NAMES, **(names or {})}
  try:
    for cells in reader:
      cells = [cell.strip() for cell in cells]
      if not any(cells):
        continue
      if not columns:
        columns = _columns(path, cells, known)
        continue
      if any(cells[len(columns) :]):
        raise DataError(
          f'{path}:{reader.line_num} has {len(cells)} cells where the first '
          f'row names {len(columns)} columns; put cells with a '
          f'{separator!r} into double quotes'
        )
      pairs = zip(columns, cells, strict=False)
      yield reader.line_num, {name: cell for name, cell in pairs if cell}
  except csv.Error as error:
    raise DataError(
      f'{path}:{reader.line_num} is no row of CSV ({error}); save the table '
      'as CSV again'
    ) from None
  if not columns:
    raise DataError(f'{path} is empty; give a table with a row of names')


def _columns(
  path: os.PathLike[str] | str, cells: list[str], known: Mapping[str, str]
) -> list[str]:
  """Returns the names of the columns, in the words that rows use."""
  found = [known.get(cell.lower(), cell.lower()) for cell in cells]
  twice = sorted({name for name in found if name and found.count(name) > 1})
  if twice:
    raise DataError(
      f'{path}: its first row names the column {twice[0]!r} twice; rename one'
    )
  return found
