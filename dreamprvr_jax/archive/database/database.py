"""A vector database as the first pass of a search."""

import dataclasses
from types import TracebackType

import numpy as np
from jaxtyping import Float, Int

from dreamprvr_jax.archive.database.edge import Edge
from dreamprvr_jax.archive.database.engine import Engine, is_address
from dreamprvr_jax.archive.database.points import ABOUT_ID, About, state_of
from dreamprvr_jax.archive.database.server import Server
from dreamprvr_jax.archive.index.layout import BRANCHES
from dreamprvr_jax.archive.index.store import Store
from dreamprvr_jax.errors import UserError


class Database:
  """Use: `searcher.search(queries, k, first_pass=Database(place, store))`.

  Attributes:
    place: The folder or address.
    about: What the database says of its index.
  """

  def __init__(self, place: str, store: Store):
    """Opens a database; a folder is then this process's alone.

    Args:
      place: A folder, or the address of a collection, such as
        http://HOST:6333/NAME.
      store: The index that was exported to it.

    Raises:
      UserError: If Qdrant's client is not installed, there is no such database,
        it cannot be reached, or its videos or weights are not those of the
        index.
    """
    self.place = place
    self._rows = store.rows_of()
    self._engine = open_engine(place)
    try:
      self.about = self._checked(store)
    except BaseException:
      self._engine.close()
      raise

  def _checked(self, store: Store) -> About:
    again = (
      f'export it, with --mode=export --index={store.directory} '
      f'--database={self.place}'
    )
    if not self._engine.exists():
      raise UserError(f'{self.place} has no database of the index; {again}')
    about = about_of(self._engine, self.place, store)
    if about.state != state_of(store):
      what = (
        'had other videos' if about.state else 'was not exported to its end'
      )
      raise UserError(
        f'the index {store.directory} {what} when the database {self.place} '
        f'was written; {again}: only what changed is sent'
      )
    points = self._engine.count()
    if points != about.points:
      raise UserError(
        f'the database {self.place} has {points:,} points where '
        f'{about.points:,} were written; {again}'
      )
    return about

  def __enter__(self) -> 'Database':
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self.close()

  def close(self) -> None:
    """Lets other processes use the folder."""
    self._engine.close()

  @property
  def vectors(self) -> int:
    """About how many vectors the database has: the number of its points."""
    return self._engine.count()

  def keep(self, depth: int) -> None:
    """Makes a search keep this many neighbours, now and later.

    Args:
      depth: The neighbours; 0 if all vectors are compared.
    """
    self.about = dataclasses.replace(self.about, depth=depth)
    self._engine.put([self.about.point()])

  def __call__(
    self, queries: Float[np.ndarray, 'n q'], count: int
  ) -> Int[np.ndarray, 'n m']:
    """Returns candidates for each query: the rows of videos, `count` of these
    by each branch, each row once, then -1.

    Raises:
      UserError: If the database cannot be searched.
    """
    queries = queries.astype(np.float32)
    answers = [
      self._engine.nearest(branch, queries, count, self.about.depth)
      for branch in BRANCHES
    ]
    candidates = [
      sorted(row for name in {*clip, *frame} for row in self._rows[name])
      for clip, frame in zip(*answers, strict=True)
    ]
    width = max(map(len, candidates), default=0)
    found = np.full((len(queries), max(width, 2 * count)), -1, np.int32)
    for i, rows in enumerate(candidates):
      found[i, : len(rows)] = rows
    return found


def open_engine(place: str) -> Engine:
  """Returns the engine of a folder or an address.

  Raises:
    UserError: If it is not installed, cannot be reached, or is used by another
      process.
  """
  return Server(place) if is_address(place) else Edge(place)


def about_of(
  engine: Engine, place: str, store: Store, *, product: bool = False
) -> About:
  """Returns what a database says of its index.

  Args:
    engine: The database, which exists.
    place: Where it is, for errors.
    store: The index.
    product: What an empty database is for; see `About`.

  Raises:
    UserError: If it is no database of an index, or one of other weights.
  """
  weights, width = store.manifest.digest, store.manifest.width
  about = About.read(engine.facts(ABOUT_ID))
  if about is None:
    # The first export may have been stopped before its first point.
    if not engine.count():
      return About(weights, width, product)
    raise UserError(
      f'{place} has a collection that --mode=export did not write, or that '
      'another version wrote; nothing was changed: name another --database'
    )
  if (about.weights, about.width) != (weights, width):
    raise UserError(
      f'the database {place} has tokens of the weights {about.weights!r}, the '
      f'index {store.directory} of {weights!r}; name another --database'
    )
  return about
