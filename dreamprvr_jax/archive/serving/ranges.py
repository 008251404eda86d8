"""Which bytes the header `Range` of a request asks for (RFC 9110, 14)."""

import re

# Eighteen digits are more than any file has bytes.
_SPEC = re.compile(r'([0-9]{0,18})-([0-9]{0,18})')


def parse(header: str, size: int, most: int) -> list[tuple[int, int]] | None:
  """Returns the parts of a file: [(start, end behind it)], sorted and apart.

  Args:
    header: The header's value.
    size: Bytes of the file.
    most: Parts that are read; a request for more gets the whole file.

  Returns:
    The parts; none if the file has no byte of them. None if the header is to
    be ignored: of another unit, malformed, or with too many parts.
  """
  unit, equals, given = header.partition('=')
  specs = [spec.strip(' \t') for spec in given.split(',')]
  specs = [spec for spec in specs if spec]
  if not equals or unit.strip(' \t').lower() != 'bytes':
    return None
  if not 0 < len(specs) <= most:
    return None
  found: list[tuple[int, int]] = []
  for spec in specs:
    match = _SPEC.fullmatch(spec)
    if not match or spec == '-':
      return None
    first, last = match.groups()
    if not first:
      found.append((max(size - int(last), 0), size))
    elif not last:
      found.append((int(first), size))
    elif int(first) <= int(last):
      found.append((int(first), min(int(last) + 1, size)))
    else:
      return None
  return _joined([part for part in found if part[0] < part[1]])


def _joined(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
  """Returns the parts in order; those that touch become one."""
  joined: list[tuple[int, int]] = []
  for start, end in sorted(parts):
    if joined and start <= joined[-1][1]:
      joined[-1] = joined[-1][0], max(end, joined[-1][1])
    else:
      joined.append((start, end))
  return joined
