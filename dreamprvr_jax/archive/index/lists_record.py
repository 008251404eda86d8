"""What a manifest says of the inverted lists of an index.

The lists have a folder of their own, lists/NAME, beside the segments; see
`archive.lists`. They name videos by id. A video that they do not name is scored
exactly in each search, so an index whose lists are behind answers rightly.
"""

import dataclasses
import math
from typing import Any

from dreamprvr_jax.archive.index import checksums

LISTS = 'lists'
# Ids of the videos that lists name.
NAMES = 'names.json'
# All files that lists may have.
FILES = frozenset(
  [
    NAMES,
    *(f'{branch}.faiss' for branch in ('clip', 'frame')),
    *(f'{branch}_owners.npy' for branch in ('clip', 'frame')),
  ]
)


@dataclasses.dataclass(frozen=True)
class ListsRecord:
  """The lists of an index, and how they are searched.

  Attributes:
    name: Name of their folder.
    files: Size and checksum of each of its files, see `checksums.record`.
    trained: Videos that the index had when centres and codes were made.
    fit: Mean cosine of a representative with its centre then, by branch.
    recall: The share of the exact best ten that a search shall find.
    probes: Lists that a search looks into.
    depth: Videos that it scores exactly to find ten.
    found: The share of the exact best ten that it found when it was measured.
    queries: Queries with which that was measured.
    dropped: Ids whose videos were replaced or renamed since: what the lists say
      of them no longer holds.
  """

  name: str
  files: checksums.Files
  trained: int
  fit: dict[str, float]
  recall: float
  probes: int
  depth: int
  found: float
  queries: int
  dropped: tuple[str, ...] = ()


def fault(content: Any) -> str:
  """Returns why a JSON value is no record of lists; '' if it is one."""
  fields = {field.name for field in dataclasses.fields(ListsRecord)}
  if not isinstance(content, dict) or set(content) != fields:
    return f'lists is {content!r:.80}'
  is_count = lambda x: type(x) is int and 0 < x < 2**31
  is_share = lambda x: type(x) in (int, float) and 0 <= x <= 1
  fit, dropped = content['fit'], content['dropped']
  checks = {
    'name': isinstance(content['name'], str),
    'files': checksums.is_valid(content['files'])
    and {NAMES} < set(content['files']) <= FILES,
    'fit': isinstance(fit, dict)
    and set(fit) <= {'clip', 'frame'}
    and all(type(x) is float and math.isfinite(x) for x in fit.values()),
    'dropped': isinstance(dropped, list)
    and all(isinstance(x, str) for x in dropped),
    **{
      name: is_count(content[name])
      for name in ('trained', 'probes', 'depth', 'queries')
    },
    **{name: is_share(content[name]) for name in ('recall', 'found')},
  }
  for name, is_right in checks.items():
    if not is_right:
      return f'{name} of its lists is {content[name]!r:.40}'
  return ''


def record_of(content: dict[str, Any]) -> ListsRecord:
  """Returns the record that a JSON value without `fault` describes."""
  return ListsRecord(**{**content, 'dropped': tuple(content['dropped'])})
