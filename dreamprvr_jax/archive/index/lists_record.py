"""What a manifest says of the inverted lists of an index.

The lists have a folder of their own, lists/NAME, beside the segments; see
`archive.lists`. They name videos by id. A video that they do not name is scored
exactly in each search, so an index whose lists are behind answers rightly.
"""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

from dreamprvr_jax.archive.index.layout import read_ids

LISTS = 'lists'
# Number of a representative's video, and ids of these videos.
NAMES = 'names.json'


@dataclasses.dataclass(frozen=True)
class ListsRecord:
  """The lists of an index, and how they are searched.

  Attributes:
    name: Name of their folder.
    files: Name -> size and checksum of each of its files.
    trained: Videos from which centres and codes were made.
    fit: Mean product of a representative with its centre when they were made,
      by branch; both have unit length.
    recall: The share of the exact best ten that a search shall find.
    probes: Lists that a search looks into.
    depth: Videos that it scores exactly to find ten.
    found: The share of the exact best ten that it found when it was measured.
    queries: Queries with which that was measured.
    dropped: Ids whose videos were replaced or renamed since: what the lists
      say of these ids no longer holds.
  """

  name: str
  files: dict[str, dict[str, Any]]
  trained: int
  fit: dict[str, float]
  recall: float
  probes: int
  depth: int
  found: float
  queries: int
  dropped: tuple[str, ...] = ()

  def without(
    self, root: pathlib.Path, ids: Iterable[str]
  ) -> 'ListsRecord':
    """Returns the record of lists of which some ids no longer hold.

    Args:
      root: The folder of the index.
      ids: Ids of videos that were added, replaced or renamed.

    Raises:
      UserError: If the names of the lists cannot be read.
    """
    named = set(read_ids(root / LISTS / self.name / NAMES))
    gone = {*self.dropped, *named.intersection(ids)}
    return dataclasses.replace(self, dropped=tuple(sorted(gone)))
