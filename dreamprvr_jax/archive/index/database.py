"""The tokens of an index in a vector database, LanceDB.

It has a row per video: the id, and the real tokens of each branch as a
multi-vector, whose similarity with a query is that of the most similar token.
The database names candidates by both branches; the index computes their scores.
"""

import concurrent.futures
import contextlib
import importlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax import folders, text
from dreamprvr_jax.archive.index.layout import BRANCHES
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar

_LIBRARY = 'lancedb'
_TABLE = 'videos'
# Metadata of the table: the digest of the weights that made the tokens.
_DIGEST = b'digest'
# Videos written at a time.
_BATCH = 256
# With fewer videos there is no index: all are compared.
_INDEXED = 256
# Requests at a time.
_REQUESTS = 8


class Database:
  """Use: `searcher.search(queries, k, first_pass=Database(place, store))`."""

  def __init__(self, place: str, store: Store):
    """Opens the database.

    Args:
      place: A folder, or the address of one, such as s3://BUCKET/NAME.
      store: The index that was exported to it.

    Raises:
      UserError: If LanceDB is not installed, there is no such database, or its
        videos or weights are not those of the index.
    """
    self._table = _opened(_library(_LIBRARY), place)
    if self._table is None:
      raise UserError(
        f'{place} has no database; write one with --mode=export '
        f'--index={store.directory} --out={place}'
      )
    self._rows = store.rows_of()
    again = (
      f'export the index again, with --mode=export --index={store.directory} '
      f'--out={place}'
    )
    digest = _digest(self._table)
    if digest != store.manifest.digest:
      raise UserError(
        f'the database {place} has tokens of the weights {digest!r}, the index '
        f'{store.directory} of {store.manifest.digest!r}; {again}'
      )
    found = self._table.search().select(['id']).to_arrow()['id'].to_pylist()
    # Earlier versions did not compose ids (NFC).
    other = set(map(text.normal, found)) ^ set(self._rows)
    if other:
      raise UserError(
        f'the database {place} and the index {store.directory} differ in '
        f'{len(other)} videos, {min(other)!r} among them; {again}'
      )

  def __call__(
    self, queries: Float[np.ndarray, 'n q'], count: int
  ) -> Int[np.ndarray, 'n m']:
    """Returns candidates for each query: the rows of videos, `count` of these
    by each branch, each row once, then -1."""

    def names(request: tuple[np.ndarray, str]) -> list[str]:
      query, branch = request
      wanted = self._table.search(query, vector_column_name=branch)
      wanted = wanted.distance_type('cosine').select(['id', '_distance'])
      return wanted.limit(count).to_arrow()['id'].to_pylist()

    requests = [(q, b) for q in queries.astype(np.float32) for b in BRANCHES]
    with concurrent.futures.ThreadPoolExecutor(_REQUESTS) as pool:
      answers = list(pool.map(names, requests))
    candidates = [
      sorted(
        {
          row
          for names in pair
          for name in names
          for row in self._rows[text.normal(name)]
        }
      )
      for pair in zip(answers[::2], answers[1::2], strict=True)
    ]
    width = max(map(len, candidates), default=0)
    found = np.full((len(queries), max(width, 2 * count)), -1, np.int32)
    for i, rows in enumerate(candidates):
      found[i, : len(rows)] = rows
    return found


def export(place: str, store: Store, *, show: bool = False) -> int:
  """Writes the videos of an index to a database and returns their number.

  The former table is replaced in one step.

  Args:
    place: A folder, or the address of one, such as s3://BUCKET/NAME.
    store: The index.
    show: Whether a progress bar is shown.

  Raises:
    UserError: If LanceDB is not installed, the index is empty or damaged, the
      folder or table has other content, or another command writes there.
  """
  lancedb, arrow = _library(_LIBRARY), _library('pyarrow')
  videos = store.rows_of()
  if not videos:
    raise UserError(f'the index {store.directory} has no videos to export')
  if not _is_address(place):
    _check_folder(place)
  former = _opened(lancedb, place)
  if former is not None and not _digest(former):
    raise UserError(
      f'{place} has a table {_TABLE!r} that --mode=export did not write; '
      'nothing was changed: give another --out'
    )
  schema = _schema(arrow, store)
  with contextlib.ExitStack() as stack:
    if not _is_address(place):
      stack.enter_context(folders.held(place, 'database'))
    table = lancedb.connect(place).create_table(
      _TABLE,
      data=_batches(arrow, schema, store, show),
      schema=schema,
      mode='overwrite',
    )
    if len(videos) >= _INDEXED:
      for branch in BRANCHES:
        index = lancedb.index.IvfSq(distance_type='cosine')
        table.create_index(branch, config=index)
  return len(videos)


def _schema(arrow: Any, store: Store) -> Any:
  """Returns the Arrow schema of the table."""
  tokens = arrow.list_(arrow.list_(arrow.float16(), store.manifest.width))
  return arrow.schema(
    [('id', arrow.string()), *((branch, tokens) for branch in BRANCHES)],
    metadata={_DIGEST: store.manifest.digest.encode()},
  )


def _batches(
  arrow: Any, schema: Any, store: Store, show: bool
) -> Iterator[Any]:
  """Yields Arrow batches of the videos of a store."""
  videos = list(store.rows_of().items())
  for start in bar(range(0, len(videos), _BATCH), 'exporting', show=show):
    few = videos[start : start + _BATCH]
    rows = np.concatenate([np.asarray(x, np.int64) for _, x in few])
    ends = np.cumsum([0, *(len(x) for _, x in few)])
    mask = store.take('frame_mask', rows)
    columns = [arrow.array([name for name, _ in few])]
    for branch in BRANCHES:
      found = store.tokens(branch, rows).astype(np.float16)
      store.check_finite(found, rows, 'tokens')
      real = mask if branch == 'frame' else np.ones(found.shape[:2], bool)
      flat = arrow.array(found[real].reshape(-1))
      counts = np.concatenate([[0], np.cumsum(real.sum(axis=1))])
      columns.append(
        arrow.ListArray.from_arrays(
          counts[ends].astype(np.int32),
          arrow.FixedSizeListArray.from_arrays(flat, found.shape[-1]),
        )
      )
    yield arrow.record_batch(columns, schema=schema)


def _library(name: str) -> Any:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise UserError(
      f'the vector database needs {name}, which is not installed ({error}); '
      "install it: pip install 'dreamprvr_jax[database]'"
    ) from error


def _is_address(place: str) -> bool:
  return '://' in place


def _digest(table: Any) -> str:
  """Returns the digest of a table's weights; '' if it is not ours."""
  found = (table.schema.metadata or {}).get(_DIGEST, b'')
  return found.decode('utf-8', 'replace')


def _opened(lancedb: Any, place: str) -> Any:
  """Returns the table of a database; None if it has none.

  Raises:
    UserError: If it cannot be opened.
  """
  is_local = not _is_address(place)
  # LanceDB would make a folder that does not exist.
  if is_local and not (pathlib.Path(place) / f'{_TABLE}.lance').exists():
    return None
  try:
    return lancedb.connect(place).open_table(_TABLE)
  # LanceDB raises these, ValueError if there is no such table.
  except (ValueError, OSError, RuntimeError) as error:
    if isinstance(error, ValueError) and not is_local:
      return None
    raise UserError(
      f'the database {place} cannot be opened ({error}); give what '
      '--mode=export --index=... wrote as --out'
    ) from error


def _check_folder(place: str | os.PathLike[str]) -> None:
  folder = pathlib.Path(place)
  if folder.exists() and not folder.is_dir():
    raise UserError(f'--out={place} is a file; give a folder')
  ours = {f'{_TABLE}.lance', folders.LOCK}
  names = {path.name for path in folder.iterdir()} if folder.exists() else set()
  foreign = {x for x in names - ours if not folders.is_of_system(x)}
  if foreign:
    raise UserError(
      f'{place} has other files ({sorted(foreign)[0]}); give a folder that '
      'is empty, does not exist yet, or has a database'
    )
