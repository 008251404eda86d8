"""A database in a folder: Qdrant Edge, the engine of Qdrant in the process."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dreamprvr_jax import folders
from dreamprvr_jax.archive.database.engine import BUILD_DEPTH, EDGES, library
from dreamprvr_jax.archive.database.points import KIND, OF_VIDEO, VIDEO, Point
from dreamprvr_jax.archive.index.layout import BRANCHES
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar

_LIBRARY = 'qdrant_edge'
_SHARD, _CONFIG = 'shard', 'edge_config.json'
_KIND = 'database'
_PANIC = 'PanicException'
# Kilobytes of vectors. Below the first there is no graph: all are compared;
# above the second, finished parts are not merged.
_GRAPH_KILOBYTES, _PART_KILOBYTES = 10_000, 400_000
# Points read at a time.
_PAGE = 1000
# Queries at a time.
_QUERIES = 64
# How many more points than videos are found, and how many more if that gave too
# few videos.
_MORE = 2


class Edge:
  """The engine in a folder, which one process uses at a time."""

  def __init__(self, place: str):
    """Opens the folder, which may have no database yet.

    Args:
      place: The folder.

    Raises:
      UserError: If the engine is not installed, another process uses the
        folder, or it has other files or a damaged database.
    """
    self._edge = library(_LIBRARY)
    self._place = place
    self._shard = None
    self._path = pathlib.Path(place) / _SHARD
    _check_folder(pathlib.Path(place))
    with contextlib.ExitStack() as stack:
      stack.enter_context(folders.held(place, _KIND))
      if (self._path / _CONFIG).is_file():
        with self._failing('cannot be opened'):
          self._shard = self._edge.EdgeShard.load(str(self._path))
        stack.callback(self._shard.close)
      self._stack = stack.pop_all()

  def exists(self) -> bool:
    """See `Engine`."""
    return self._shard is not None

  def create(self, width: int, *, product: bool) -> None:
    """See `Engine`."""
    edge = self._edge
    vector = edge.EdgeVectorParams(
      size=width,
      distance=edge.Distance.Dot if product else edge.Distance.Cosine,
      datatype=edge.VectorStorageDatatype.Float16,
      # Searched as int8 in memory; the best of these again as float16.
      memory=edge.Memory.Cold,
      quantization_config=edge.ScalarQuantizationConfig(
        edge.ScalarType.Int8, memory=edge.Memory.Cached
      ),
      hnsw_config=edge.HnswIndexConfig(
        m=EDGES, ef_construct=BUILD_DEPTH, full_scan_threshold=_GRAPH_KILOBYTES
      ),
    )
    config = edge.EdgeConfig(
      vectors=dict.fromkeys(BRANCHES, vector),
      optimizers=edge.EdgeOptimizersConfig(
        default_segment_number=1,
        indexing_threshold=_GRAPH_KILOBYTES,
        max_segment_size=_PART_KILOBYTES,
      ),
    )
    # What is removed is ours: a creation that was stopped leaves files without
    # the last, its config.
    folders.claim(self._place, _KIND)
    shutil.rmtree(self._path, ignore_errors=True)
    self._path.mkdir()
    with self._failing('cannot be made'):
      self._shard = edge.EdgeShard.create(str(self._path), config)
      self._stack.callback(self._shard.close)
      for name in (KIND, VIDEO):
        self._shard.update(
          edge.UpdateOperation.create_field_index(
            name, edge.PayloadSchemaType.Keyword
          )
        )

  def facts(self, point: str) -> Mapping[str, Any] | None:
    """See `Engine`."""
    with self._failing('cannot be read'):
      found = self._opened.retrieve(
        [point], with_payload=True, with_vector=False
      )
    return found[0].payload if found else None

  def videos(self) -> Iterator[Mapping[str, Any]]:
    """See `Engine`."""
    edge = self._edge
    wanted = edge.Filter(
      must=[edge.FieldCondition(KIND, match=edge.MatchValue(OF_VIDEO))]
    )
    start = None
    while True:
      request = edge.ScrollRequest(
        offset=start, limit=_PAGE, filter=wanted, with_payload=True
      )
      with self._failing('cannot be read'):
        found, start = self._opened.scroll(request)
      yield from (point.payload for point in found)
      if start is None:
        return

  def put(self, points: Sequence[Point]) -> None:
    """See `Engine`."""
    made = [
      self._edge.Point(point.id, dict(point.vectors), dict(point.payload))
      for point in points
    ]
    with self._failing('cannot be written'):
      self._opened.update(self._edge.UpdateOperation.upsert_points(made))

  def delete(self, ids: Sequence[str]) -> None:
    """See `Engine`."""
    with self._failing('cannot be written'):
      operation = self._edge.UpdateOperation.delete_points(list(ids))
      self._opened.update(operation)

  def build(self, *, show: bool = False, final: bool = True) -> None:
    """See `Engine`; the engine does not say how far it is."""
    total = self.count()
    with (
      bar((), 'building the graph', total=total, show=show) as shown,
      self._failing('cannot be written'),
    ):
      self._opened.flush()
      self._opened.optimize()
      self._opened.flush()
      shown.update(total)

  def count(self) -> int:
    """See `Engine`."""
    with self._failing('cannot be read'):
      return self._opened.count(self._edge.CountRequest())

  def nearest(
    self, branch: str, queries: Float[np.ndarray, 'n d'], count: int, depth: int
  ) -> list[list[str]]:
    """See `Engine`."""
    found: list[list[str]] = [[] for _ in queries]
    waiting, limit = np.arange(len(queries)), _MORE * count
    while len(waiting):
      short = []
      for start in range(0, len(waiting), _QUERIES):
        few = waiting[start : start + _QUERIES]
        for i, hits in zip(
          few, self._asked(branch, queries[few], limit, depth), strict=True
        ):
          found[i] = list(dict.fromkeys(hits))[:count]
          if len(found[i]) < count and len(hits) == limit:
            short.append(i)
      waiting, limit = np.asarray(short, int), _MORE * limit
    return found

  def _asked(
    self, branch: str, queries: np.ndarray, limit: int, depth: int
  ) -> list[list[str]]:
    """Returns the videos of the best points of each query."""
    edge = self._edge
    options = edge.SearchParams(
      hnsw_ef=max(depth, limit) if depth else None, exact=not depth
    )
    requests = [
      edge.QueryRequest(
        limit=limit,
        query=edge.Query.Nearest(query, branch),
        with_payload=[VIDEO],
        params=options,
      )
      for query in queries
    ]
    with self._failing('cannot be searched'):
      answers = self._opened.query_batch(edge.QueryBatchRequest(requests))
    return [[hit.payload[VIDEO] for hit in hits] for hits in answers]

  def close(self) -> None:
    """See `Engine`."""
    self._stack.close()

  @property
  def _opened(self) -> Any:
    if self._shard is None:
      raise RuntimeError(f'{self._place} has no database yet')
    return self._shard

  @contextlib.contextmanager
  def _failing(self, how: str) -> Iterator[None]:
    """Turns an error of the engine into UserError."""
    try:
      yield
    except BaseException as error:
      # The engine raises nothing narrower than Exception itself, which Python
      # never does, and PanicException where a file is damaged.
      if type(error) is not Exception and type(error).__name__ != _PANIC:
        raise
      raise UserError(
        f'the database {self._place} {how} ({error}); export the index again, '
        'into a new folder'
      ) from error


def _check_folder(folder: pathlib.Path) -> None:
  """Raises UserError unless a folder is empty, missing, or a database's."""
  if folder.exists() and not folder.is_dir():
    raise UserError(f'--database={folder} is a file; give a folder')
  names = {path.name for path in folder.iterdir()} if folder.exists() else set()
  ours = {_SHARD, folders.LOCK, folders.MARKER}
  foreign = {x for x in names - ours if not folders.is_of_system(x)}
  if foreign:
    raise UserError(
      f'{folder} has other files ({min(foreign)}); give a folder that is '
      'empty, does not exist yet, or has a database'
    )
