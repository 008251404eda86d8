"""Numpy's numbers and arrays from the records of an inert pickle."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamprvr_jax.interop.inert_pickle import Record, short


def array_of(state: Any) -> Any:
  """Returns the array of a numpy state; NotImplemented for one of objects.

  Args:
    state: The state that the pickle has for the array, as plain data.

  Raises:
    ValueError: If it is not the state of an array.
  """
  if not isinstance(state, tuple) or len(state) != 5:
    raise ValueError(f'an array of the state {short(state)}')
  _, shape, dtype, is_fortran, data = state
  return _array(data, dtype, shape, 'F' if is_fortran else 'C')


def _dtype(record: Record, kind: Any, *flags: Any) -> Any:
  del flags  # Whether to align and to copy.
  # Neither objects nor structures: numbers and strings only.
  if not isinstance(kind, str) or not re.fullmatch(
    r'\?|b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,5}', kind
  ):
    return NotImplemented
  order = '='
  state = record.state
  if isinstance(state, tuple) and len(state) > 1 and state[1] in ('<', '>'):
    order = state[1]
  return np.dtype(kind).newbyteorder(order)


def _scalar(record: Record, dtype: Any, data: Any = None) -> Any:
  del record
  if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
    return NotImplemented
  return _from_buffer(data, dtype, 1)[0].item()


def _buffer(
  record: Record, data: Any, dtype: Any, shape: Any, order: Any
) -> Any:
  del record
  return _array(data, dtype, shape, order)


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
  is_data = isinstance(data, (bytes, bytearray))
  if not isinstance(dtype, np.dtype) or not is_data:
    return NotImplemented
  shape = (shape,) if isinstance(shape, int) else shape
  if (
    not isinstance(shape, (tuple, list))
    or len(shape) > 32
    or not all(type(n) is int and 0 <= n < 2**62 for n in shape)
  ):
    raise ValueError(f'an array of the shape {short(shape)}')
  array = _from_buffer(bytes(data), dtype, -1)
  return array.reshape(shape, order='F' if order == 'F' else 'C')


def _from_buffer(data: bytes, dtype: np.dtype, count: int) -> np.ndarray:
  if not dtype.itemsize or (count == -1 and not data):
    return np.zeros(max(count, 0), dtype)
  return np.frombuffer(data, dtype, count)


# numpy 2 renamed the package that its pickles mention.
RULES: dict[str, Callable[..., Any]] = {
  'numpy.dtype': _dtype,
  'numpy.core.multiarray.scalar': _scalar,
  'numpy._core.multiarray.scalar': _scalar,
  'numpy.core.numeric._frombuffer': _buffer,
  'numpy._core.numeric._frombuffer': _buffer,
}
