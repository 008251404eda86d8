"""Limits on arrays in files: how far they unpack, and what memory can take.

A small file can contain a large array: a gigabyte of zeros packs into a
megabyte, and a shape is only a few digits. Features pack to a half at best,
padded ones to a tenth, so a limit far above that refuses no real file.
"""

import dataclasses
import math
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.errors import ArrayError, DataError
from dreamprvr_jax.host_memory import available_memory

# An array up to this size is never refused, however well it packs.
FREE_BYTES = 256 << 20
# The default of `Limits.max_inflation`.
MAX_INFLATION = 64.0
# Extra bytes for each value while it is checked: a copy in float64, or one in
# float32 and two masks.
_WORKING_BYTES = 8


class Claim(NamedTuple):
  """The size of one array, as its file states it.

  Attributes:
    shape: Its shape.
    dtype: Its type.
    unpacked: Bytes in memory once it is read, at least those of its values.
    packed: Bytes in the file.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  unpacked: int
  packed: int


@dataclasses.dataclass(frozen=True)
class Limits:
  """How far the arrays of a source may unpack.

  Attributes:
    max_inflation: The most times its size that a source may unpack to, and
      each of its arrays, once that is more than `FREE_BYTES`.
    option: The option that sets it, for messages.
  """

  max_inflation: float = MAX_INFLATION
  option: str = 'the default'

  def __post_init__(self):
    if not self.max_inflation >= 1:
      raise DataError(
        f'{self.option} is {self.max_inflation:g}; give a number from 1 on, '
        f'such as {MAX_INFLATION:g}'
      )

  def excess(
    self, claims: Mapping[str, Claim], size: int, source: str
  ) -> dict[str, str]:
    """Returns {name: problem} of the arrays that unpack too far.

    Args:
      claims: Claims of all arrays of the source.
      size: Bytes of the source, see `disk_size`.
      source: The name of the source in errors.

    Raises:
      DataError: If all arrays together unpack too far although no single one
        does: many names share the same bytes, or the file has a hole.
    """
    total = sum(claim.unpacked for claim in claims.values())
    whole = self._is_too_much(total, size)
    found = {}
    for name, claim in claims.items():
      if self._is_too_much(claim.unpacked, claim.packed) or (
        whole and claim.unpacked > self.max_inflation * claim.packed
      ):
        found[name] = (
          f'takes {_size(claim.packed)} and unpacks to '
          f'{_size(claim.unpacked)}, more than {self._times()}; write it '
          'without padding, or raise the limit if you trust the file'
        )
        total -= claim.unpacked
    if self._is_too_much(total, size):
      raise DataError(
        f'{source} takes {_size(size)} of the disk but its arrays come to '
        f'{_size(total)}, more than {self._times()}; write each array once and '
        'whole, or raise the limit if you trust the file'
      )
    return found

  def _is_too_much(self, unpacked: int, packed: int) -> bool:
    return unpacked > FREE_BYTES and unpacked > self.max_inflation * packed

  def _times(self) -> str:
    return f'{self.max_inflation:g} times its size ({self.option})'


def disk_size(path: pathlib.Path) -> int:
  """Returns the bytes that a file takes on the disk, without its holes."""
  stat = path.stat()
  # Some network disks say 0, other systems nothing.
  stored = getattr(stat, 'st_blocks', 0) * 512
  if not 0 < stored < stat.st_size or not hasattr(os, 'SEEK_HOLE'):
    return stat.st_size
  # Fewer blocks are no proof of holes: the disk may compress the file, or not
  # have written all of it yet.
  with path.open('rb') as file:
    hole = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
  return stored if hole < stat.st_size else stat.st_size


def memory_problem(claim: Claim, available: int | None) -> str:
  """Returns why an array does not fit into memory; '' if it does.

  Args:
    claim: The array's claim.
    available: Free bytes, see `available_memory`.
  """
  needed = claim.unpacked
  if claim.dtype.itemsize:
    needed += claim.unpacked // claim.dtype.itemsize * _WORKING_BYTES
  if available is None or needed <= available:
    return ''
  return (
    f'claims the shape {shape_text(claim.shape)}, which takes '
    f'{_size(needed)} of memory where {_size(available)} are free; cut it into '
    'smaller arrays, or use a machine with more memory'
  )


def require_memory(claim: Claim) -> None:
  """Checks that an array fits into free memory.

  Raises:
    ArrayError: If it does not.
  """
  # Asking the system costs more than reading a small array.
  if claim.unpacked > FREE_BYTES // 16:
    problem = memory_problem(claim, available_memory())
    if problem:
      raise ArrayError(problem)


def require_possible(shape: Sequence[int], dtype: np.dtype) -> None:
  """Checks that an array of this shape could exist.

  Raises:
    ArrayError: If it has more bytes than any machine.
  """
  if math.prod(n for n in shape if n) * max(dtype.itemsize, 1) > sys.maxsize:
    raise ArrayError(
      f'claims the shape {shape_text(shape)}, which no machine can hold; write '
      'it again'
    )


def no_memory(size: int) -> ArrayError:
  """Returns the error for an array that cannot be allocated."""
  return ArrayError(
    f'takes {size:,} bytes, and there is not enough memory now; end other '
    'programs, or cut it into smaller arrays'
  )


def shape_text(shape: Sequence[int]) -> str:
  """Returns a shape as text of at most 83 characters."""
  text = str(tuple(shape))
  return text if len(text) <= 80 else f'{text[:80]}...'


def _size(count: int) -> str:
  """Returns a number of bytes as text."""
  if count < 1 << 20:
    return f'{count:,} bytes'
  unit, name = (1 << 30, 'GiB') if count >= 1 << 30 else (1 << 20, 'MiB')
  return f'{count / unit:,.1f} {name}'
