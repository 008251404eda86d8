"""LanceDB on the tokens of an index, for `search.py`.

It has a row per video: the id, and the real tokens of each branch as a
multi-vector, whose similarity with a query is that of the most similar token.
This needs the extra `bench`.
"""

import concurrent.futures
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.archive.index.layout import BRANCHES
from dreamprvr_jax.archive.index.store import Store

_TABLE = 'videos'
# Videos written at a time.
_BATCH = 256
# With fewer videos there is no index: all are compared.
_INDEXED = 256
# Requests at a time.
_REQUESTS = 8


class LanceRival:
  """A first pass for `Searcher.search`."""

  def __init__(self, place: os.PathLike[str] | str, store: Store):
    """Writes the videos of an index to a new folder, and indexes them."""
    import lancedb
    import pyarrow

    tokens = pyarrow.list_(
      pyarrow.list_(pyarrow.float16(), store.manifest.width)
    )
    schema = pyarrow.schema(
      [('id', pyarrow.string()), *((branch, tokens) for branch in BRANCHES)]
    )
    self._rows = store.rows_of()
    self._table = lancedb.connect(str(place)).create_table(
      _TABLE, data=_batches(pyarrow, schema, store), schema=schema
    )
    if len(self._rows) >= _INDEXED:
      for branch in BRANCHES:
        index = lancedb.index.IvfSq(distance_type='cosine')
        self._table.create_index(branch, config=index)

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
      sorted(row for name in {*clip, *frame} for row in self._rows[name])
      for clip, frame in zip(answers[::2], answers[1::2], strict=True)
    ]
    width = max(map(len, candidates), default=0)
    found = np.full((len(queries), max(width, 2 * count)), -1, np.int32)
    for i, rows in enumerate(candidates):
      found[i, : len(rows)] = rows
    return found


def _batches(arrow: Any, schema: Any, store: Store) -> Iterator[Any]:
  """Yields Arrow batches of the videos of a store."""
  videos = list(store.rows_of().items())
  for start in range(0, len(videos), _BATCH):
    few = videos[start : start + _BATCH]
    rows = np.concatenate([np.asarray(x, np.int64) for _, x in few])
    ends = np.cumsum([0, *(len(x) for _, x in few)])
    mask = store.take('frame_mask', rows)
    columns = [arrow.array([name for name, _ in few])]
    for branch in BRANCHES:
      found = store.tokens(branch, rows).astype(np.float16)
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
