"""A database at an address: a collection of a Qdrant server or cluster."""

import concurrent.futures
import contextlib
import os
import re
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.archive.database.engine import BUILD_DEPTH, EDGES, library
from dreamprvr_jax.archive.database.points import KIND, OF_VIDEO, VIDEO, Point
from dreamprvr_jax.archive.index.layout import BRANCHES
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.progress import bar

_LIBRARY = 'qdrant_client'
# The environment variable with the key of the server.
API_KEY = 'QDRANT_API_KEY'
# The first server that knows how a vector is held in memory.
_OLDEST = (1, 19)
_TIMEOUT_SECONDS = 60
# Points read or written at a time, and requests at a time.
_PAGE, _WRITTEN, _REQUESTS = 1000, 500, 8
_POLL_SECONDS = 1.0


class Server:
  """A collection of a server."""

  def __init__(self, address: str):
    """Connects to the server; the collection may not exist yet.

    Args:
      address: http://HOST:PORT/COLLECTION, or https.

    Raises:
      UserError: If the client is not installed, the address names no
        collection, or the server cannot be reached or is too old.
    """
    self._place = address
    server, self._name = _parts(address)
    qdrant = library(_LIBRARY)
    self._models = library(f'{_LIBRARY}.models')
    with self._failing():
      self._client = qdrant.QdrantClient(
        url=server,
        api_key=os.environ.get(API_KEY) or None,
        timeout=_TIMEOUT_SECONDS,
        # A warning would say what `_check_version` refuses.
        check_compatibility=False,
      )
      _check_version(address, self._client.info().version)

  def exists(self) -> bool:
    """See `Engine`."""
    with self._failing():
      return self._client.collection_exists(self._name)

  def create(self, width: int, *, product: bool) -> None:
    """See `Engine`."""
    models = self._models
    vector = models.VectorParams(
      size=width,
      distance=models.Distance.DOT if product else models.Distance.COSINE,
      datatype=models.Datatype.FLOAT16,
      # Searched as int8 in memory; the best of these again as float16.
      memory=models.Memory.COLD,
      quantization_config=models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(
          type=models.ScalarType.INT8, memory=models.Memory.PINNED
        )
      ),
      hnsw_config=models.HnswConfigDiff(m=EDGES, ef_construct=BUILD_DEPTH),
    )
    with self._failing():
      self._client.create_collection(
        self._name, vectors_config=dict.fromkeys(BRANCHES, vector)
      )
      for name in (KIND, VIDEO):
        self._client.create_payload_index(
          self._name, name, models.PayloadSchemaType.KEYWORD
        )

  def facts(self, point: str) -> Mapping[str, Any] | None:
    """See `Engine`."""
    with self._failing():
      found = self._client.retrieve(self._name, [point])
    return found[0].payload if found else None

  def videos(self) -> Iterator[Mapping[str, Any]]:
    """See `Engine`."""
    models = self._models
    wanted = models.Filter(
      must=[
        models.FieldCondition(key=KIND, match=models.MatchValue(value=OF_VIDEO))
      ]
    )
    start = None
    while True:
      with self._failing():
        found, start = self._client.scroll(
          self._name, scroll_filter=wanted, limit=_PAGE, offset=start
        )
      yield from (point.payload or {} for point in found)
      if start is None:
        return

  def put(self, points: Sequence[Point]) -> None:
    """See `Engine`; several requests at a time."""

    def write(start: int) -> None:
      made = [
        self._models.PointStruct(
          id=point.id,
          vector={k: v.tolist() for k, v in point.vectors.items()},
          payload=dict(point.payload),
        )
        for point in points[start : start + _WRITTEN]
      ]
      with self._failing():
        self._client.upsert(self._name, made, wait=True)

    with concurrent.futures.ThreadPoolExecutor(_REQUESTS) as pool:
      list(pool.map(write, range(0, len(points), _WRITTEN)))

  def delete(self, ids: Sequence[str]) -> None:
    """See `Engine`."""
    for start in range(0, len(ids), _PAGE):
      few = self._models.PointIdsList(points=list(ids[start : start + _PAGE]))
      with self._failing():
        self._client.delete(self._name, few)

  def build(self, *, show: bool = False, final: bool = True) -> None:
    """See `Engine`; the server works by itself, so only its end is awaited."""
    if not final:
      return
    models = self._models
    with bar((), 'building the graph', total=self.count(), show=show) as shown:
      while True:
        with self._failing():
          found = self._client.get_collection(self._name)
        shown.update((found.indexed_vectors_count or 0) - shown.n)
        if found.status == models.CollectionStatus.RED:
          raise UserError(
            f'the server of {self._place} cannot build its graph '
            f"({found.optimizer_status}); see the server's log"
          )
        # Grey: a server that was restarted works when the next point comes.
        if found.status != models.CollectionStatus.YELLOW:
          return
        time.sleep(_POLL_SECONDS)

  def count(self) -> int:
    """See `Engine`."""
    with self._failing():
      return self._client.count(self._name).count

  def nearest(
    self, branch: str, queries: Float[np.ndarray, 'n d'], count: int, depth: int
  ) -> list[list[str]]:
    """See `Engine`; the server groups the points by their videos."""
    options = self._models.SearchParams(
      hnsw_ef=max(depth, count) if depth else None, exact=not depth
    )

    def ask(query: np.ndarray) -> list[str]:
      with self._failing():
        found = self._client.query_points_groups(
          self._name,
          group_by=VIDEO,
          query=query.tolist(),
          using=branch,
          search_params=options,
          limit=count,
          group_size=1,
          with_payload=False,
        )
      return [str(group.id) for group in found.groups]

    with concurrent.futures.ThreadPoolExecutor(_REQUESTS) as pool:
      return list(pool.map(ask, queries))

  def close(self) -> None:
    """See `Engine`."""
    self._client.close()

  @contextlib.contextmanager
  def _failing(self) -> Iterator[None]:
    """Turns an error of the client into UserError."""
    errors = library(f'{_LIBRARY}.http.exceptions')
    busy = library(f'{_LIBRARY}.common.client_exceptions')
    try:
      yield
    except errors.ResponseHandlingException as error:
      raise UserError(
        f'the database {self._place} cannot be reached ({error.source}); check '
        'the address, and that the server runs'
      ) from error
    except errors.UnexpectedResponse as error:
      if error.status_code in (401, 403):
        raise UserError(
          f'the server of {self._place} wants another key '
          f'({error.reason_phrase}); put it into the environment variable '
          f'{API_KEY}'
        ) from error
      reason = ' '.join(str(error).split())
      raise UserError(
        f'the server of {self._place} refuses what is asked ({reason}); see '
        "the server's log"
      ) from error
    except busy.QdrantException as error:
      raise UserError(
        f'the server of {self._place} takes no more requests now ({error}); '
        'try again later'
      ) from error


def _parts(address: str) -> tuple[str, str]:
  """Returns the address of the server, and the name of the collection."""
  if '@' in address or '?' in address:
    scheme, _, _ = address.partition('://')
    raise UserError(
      f'--database={scheme}://... has a password or a key; put the key into '
      f'the environment variable {API_KEY} instead'
    )
  wrong = UserError(
    f'--database={address} is no address of a collection; give '
    'http://HOST:PORT/COLLECTION'
  )
  try:
    found = urllib.parse.urlsplit(address)
    # Only reading the port finds one that is no number.
    has_server = found.hostname and found.port != 0
  except ValueError as error:
    raise wrong from error
  path, _, name = found.path.rstrip('/').rpartition('/')
  if found.scheme not in ('http', 'https') or not has_server or not name:
    raise wrong
  return f'{found.scheme}://{found.netloc}{path}', name


def _check_version(address: str, version: str) -> None:
  """Raises UserError if the server of an address is too old."""
  numbers = re.match(r'(\d+)\.(\d+)', version)
  if numbers is None or tuple(map(int, numbers.groups())) < _OLDEST:
    oldest = '.'.join(map(str, _OLDEST))
    raise UserError(
      f'the server of {address} has version {version}; Qdrant {oldest} or '
      'newer is needed'
    )
