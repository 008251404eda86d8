"""The engine of a database: in the process, or a server at an address."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from dreamprvr_jax.archive.database.points import Point
from dreamprvr_jax.errors import UserError

# Edges of a node of the graph, and the neighbours that it is built with.
EDGES, BUILD_DEPTH = 16, 100


class Engine(Protocol):
  """Where the points of an index are; each method raises UserError if the
  database cannot be reached or refuses what is asked."""

  def exists(self) -> bool:
    """Returns whether there is a database."""
    ...

  def create(self, width: int, *, product: bool) -> None:
    """Makes an empty database for vectors of this width."""
    ...

  def facts(self, point: str) -> Mapping[str, Any] | None:
    """Returns what a point says; None if there is no such point."""
    ...

  def videos(self) -> Iterator[Mapping[str, Any]]:
    """Yields what the points of all videos say."""
    ...

  def put(self, points: Sequence[Point]) -> None:
    """Writes points, which can then be searched; those with the same ids are
    replaced."""
    ...

  def delete(self, ids: Sequence[str]) -> None:
    """Deletes points; ids that are not there do no harm."""
    ...

  def build(self, *, show: bool = False, final: bool = True) -> None:
    """Brings the graph up to date.

    Args:
      show: Whether a progress bar is shown.
      final: Whether no more points follow.
    """
    ...

  def count(self) -> int:
    """Returns the number of points."""
    ...

  def nearest(
    self, branch: str, queries: Float[np.ndarray, 'n d'], count: int, depth: int
  ) -> list[list[str]]:
    """Returns the ids of the best videos of each query, each id once.

    Args:
      branch: The vector that is compared.
      queries: The queries.
      count: Videos to find; fewer if there are fewer.
      depth: Neighbours that the search keeps; 0: all vectors are compared.
    """
    ...

  def close(self) -> None:
    """Ends the use of the database."""
    ...


def is_address(place: str) -> bool:
  """Returns whether a database is a server's, not a folder."""
  return '://' in place


def library(name: str) -> Any:
  """Returns an imported library.

  Raises:
    UserError: If it is not installed.
  """
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise UserError(
      f'the vector database needs {name}, which is not installed ({error}); '
      "install it: pip install 'dreamprvr_jax[database]'"
    ) from error
