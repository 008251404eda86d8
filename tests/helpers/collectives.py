"""The communication of a compiled program between devices."""

import math
import re
from typing import NamedTuple

_KINDS = (
  'all-gather',
  'all-reduce',
  'all-to-all',
  'collective-broadcast',
  'collective-permute',
  'ragged-all-to-all',
  'reduce-scatter',
)
# A definition is "%name = shapes kind(operands)": the shapes of its result come
# before the kind. An asynchronous collective has one start.
_DEFINITION = re.compile(rf'= (.*?) ({"|".join(_KINDS)})(?:-start)?\(')
# Groups of one device are {{0},{1}}, or [2,1]<=[2].
_ALONE = re.compile(r'replica_groups=(?:\{\{\d+\}|\[\d+,1\])')
# Groups along axes of a mesh are mesh['data'=1,'corpus'=8] {'data'}.
_ALONG = re.compile(r'replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}')
_SHAPE = re.compile(r'(\w+)\[([\d,]*)\]')


def is_alone(line):
  """Returns whether each device of a collective is alone in its group."""
  along = _ALONG.search(line)
  if along is None:
    return _ALONE.search(line) is not None
  sizes = dict(axis.split('=') for axis in along[1].split(','))
  return all(sizes[axis.strip()] == '1' for axis in along[2].split(','))


class Collective(NamedTuple):
  """One collective operation, with its results on a device."""

  kind: str
  dtypes: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]

  @property
  def size(self):
    """The numbers in the largest result, or in all exchanged pieces."""
    sizes = [math.prod(shape) for shape in self.shapes]
    return sum(sizes) if self.kind == 'all-to-all' else max(sizes)


def collectives(compiled):
  """Returns the collectives of a compiled program, largest first, without
  those in which each device is alone."""
  found = []
  for line in compiled.as_text().splitlines():
    definition = _DEFINITION.search(line)
    if definition is None or is_alone(line):
      continue
    results, kind = definition.groups()
    arrays = _SHAPE.findall(results)
    found.append(
      Collective(
        kind,
        tuple(dtype for dtype, _ in arrays),
        tuple(
          tuple(int(size) for size in dims.split(',') if size)
          for _, dims in arrays
        ),
      )
    )
  return sorted(found, key=lambda one: -one.size)
