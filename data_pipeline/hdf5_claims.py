"""The claims of datasets in HDF5 files, checked without reading values.

HDF5 lets a name refer to a dataset of another file, and lets a dataset keep its
values in other files. Both are refused, so that reading a file reads nothing
but that file. Values that were never written, which the library reads as
zeros, are refused too.
"""

import collections
import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import h5py
from h5py import h5l, h5o  # pyright: ignore[reportAttributeAccessIssue]

from data_pipeline.errors import ArrayError, unreadable
from data_pipeline.limits import Claim, require_possible, shape_text

# h5py turns errors of the HDF5 library into these, by their kind.
HDF5_ERRORS = (OSError, RuntimeError, ValueError, TypeError, KeyError)
# Soft links that are followed for one name, as many as HDF5 itself follows.
_MAX_LINKS = 16
# A packed chunk of at least this size is first unpacked in steps. Smaller ones
# unpack to about a GiB at most.
_PROBED = 1 << 20
# Bytes that a filter may add to a chunk.
_SLACK = 4096
_NUMBERS = 'fiu'


class GroupError(ArrayError):
  """A group where a dataset was expected."""


class Stored(NamedTuple):
  """A dataset: its name in the file, its claim, and the offset of its values
  if they are in one piece (else -1)."""

  name: str
  claim: Claim
  offset: int


def ask(call: Callable, *arguments: Any) -> Any:
  """Returns the result of a call to the HDF5 library.

  Raises:
    ArrayError: If it finds the file damaged.
  """
  try:
    return call(*arguments)
  except HDF5_ERRORS as error:
    raise ArrayError(unreadable(error)) from None


def open_dataset(file: h5py.File, name: str) -> h5py.h5d.DatasetID | None:
  """Returns the dataset with a name; None if the file has no such name.

  h5py follows links to other files silently, so every part of the name is
  checked before it is opened.

  Raises:
    ArrayError: If the name leads to another file, to a group or nowhere.
  """
  group = root = ask(h5py.h5g.open, file.id, b'/')
  parts = collections.deque(name.encode('utf-8', 'surrogateescape').split(b'/'))
  links = 0
  while parts:
    part = parts.popleft()
    if part in (b'', b'.'):
      continue
    if not ask(group.links.exists, part):
      if links:
        raise ArrayError('is a link to nothing; copy the dataset there')
      return None
    kind = ask(group.links.get_info, part).type
    if kind == h5l.TYPE_SOFT:
      links += 1
      if links > _MAX_LINKS:
        raise ArrayError('is a link that leads back to itself; remove it')
      target = ask(group.links.get_val, part)
      if target.startswith(b'/'):
        group = root
      parts.extendleft(reversed(target.split(b'/')))
      continue
    if kind != h5l.TYPE_HARD:
      raise ArrayError(
        f'is a link to another file{_target(group, part, kind)}; copy the '
        'dataset into this file'
      )
    found = ask(h5o.open, group, part)
    if isinstance(found, h5py.h5d.DatasetID):
      return None if any(parts) else found
    if not isinstance(found, h5py.h5g.GroupID):
      return None
    group = found
  raise GroupError('is a group where one dataset an id was expected')


def _target(group: Any, part: bytes, kind: int) -> str:
  """Returns the file that an external link names, as part of a sentence."""
  if kind != h5l.TYPE_EXTERNAL:
    return ''
  file, _ = ask(group.links.get_val, part)
  return f' ({file.decode("utf-8", "backslashreplace")[:80]})'


def examine(dataset: Any, name: str, size: int) -> Stored:
  """Returns a dataset's claim and place, without reading values.

  Args:
    dataset: The open dataset.
    name: Its name in the file.
    size: Bytes of the file.

  Raises:
    ArrayError: If it keeps its values elsewhere, or claims more than it has.
  """
  space = ask(dataset.get_space)
  if ask(space.get_simple_extent_type) == h5py.h5s.NULL:
    raise ArrayError('has no values: its dataset is null; write its values')
  shape = tuple(ask(getattr, dataset, 'shape'))
  dtype = ask(getattr, dataset, 'dtype')
  if dtype.kind not in _NUMBERS:
    # The caller refuses it; the rest is about numbers.
    return Stored(name, Claim(shape, dtype, 0, 0), -1)
  require_possible(shape, dtype)
  unpacked = math.prod(shape) * dtype.itemsize
  if not unpacked:
    return Stored(name, Claim(shape, dtype, 0, 0), -1)
  packed, offset = ask(dataset.get_storage_size), ask(dataset.get_offset)
  pieces = 1
  if offset is None:
    offset = -1
    unpacked, pieces = _laid_out(dataset, unpacked, packed)
  # Packing adds a little to values that do not pack.
  most = unpacked + unpacked // 8 + pieces * _SLACK
  if packed > min(most, size) or (offset >= 0 and offset + unpacked > size):
    raise ArrayError(
      f'claims {max(packed, unpacked):,} bytes for the shape '
      f'{shape_text(shape)} of {dtype} in a file of {size:,}; it is truncated '
      'or damaged, copy it again'
    )
  return Stored(name, Claim(shape, dtype, unpacked, packed), offset)


def _laid_out(dataset: Any, size: int, packed: int) -> tuple[int, int]:
  """Returns the bytes in memory of a dataset that is read, and its pieces.

  Args:
    dataset: A dataset that is not stored in one piece.
    size: Bytes of its values.
    packed: Bytes in the file.

  Raises:
    ArrayError: If values are in other files, or some were never written.
  """
  plan = ask(dataset.get_create_plist)
  layout = ask(plan.get_layout)
  if layout == h5py.h5d.VIRTUAL:
    raise ArrayError(
      'is a virtual dataset, with values in other datasets; copy them into a '
      'dataset of this file'
    )
  if ask(plan.get_external_count):
    file = ask(plan.get_external, 0)[0].decode('utf-8', 'backslashreplace')
    raise ArrayError(
      f'keeps its values in another file ({file[:80]}); copy them into this one'
    )
  if layout != h5py.h5d.CHUNKED:
    if packed < size:
      raise ArrayError(_never_written(f'{size:,} bytes', f'{packed:,}'))
    return size, 1
  chunk = ask(plan.get_chunk)
  shape, dtype = dataset.shape, dataset.dtype
  count = math.prod(-(-n // m) for n, m in zip(shape, chunk, strict=True))
  stored = ask(dataset.get_num_chunks)
  if stored < count:
    raise ArrayError(_never_written(f'{count:,} chunks', f'{stored:,}'))
  return count * math.prod(chunk) * dtype.itemsize, count


def _never_written(claimed: str, stored: str) -> str:
  return (
    f'claims {claimed} of which {stored} are stored: its values were never '
    'written, or not all; write them again'
  )


def require_honest_chunks(dataset: Any) -> None:
  """Checks that no packed chunk contains more than a chunk.

  The library would only notice after it has unpacked all of it.

  Raises:
    ArrayError: If one does.
  """
  plan = ask(dataset.get_create_plist)
  if ask(plan.get_layout) != h5py.h5d.CHUNKED:
    return
  filters = [ask(plan.get_filter, i)[0] for i in range(ask(plan.get_nfilters))]
  if h5py.h5z.FILTER_DEFLATE not in filters:
    return
  bit = 1 << filters.index(h5py.h5z.FILTER_DEFLATE)
  most = math.prod(ask(plan.get_chunk)) * dataset.dtype.itemsize + _SLACK
  large: list[tuple[int, ...]] = []

  def look(chunk: Any) -> None:
    if chunk.size >= _PROBED and not chunk.filter_mask & bit:
      large.append(chunk.chunk_offset)

  ask(dataset.chunk_iter, look)
  for place in large:
    packed = ask(dataset.read_direct_chunk, place)[1]
    try:
      found = len(zlib.decompressobj().decompress(packed, most + 1))
    except zlib.error:
      # Another filter was applied after it: the library will report it.
      continue
    if found > most:
      raise ArrayError(
        f'has a chunk of {len(packed):,} bytes that unpacks to more than the '
        f'{most - _SLACK:,} of a chunk; it is damaged, write it again'
      )
