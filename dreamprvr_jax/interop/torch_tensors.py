"""Tensors of a torch archive, from the records of its pickle.

Their numbers are in the archive's storages, and a tensor is a view of one.
Every bound of the view is checked against the size of the storage.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.interop.inert_pickle import Name, Record, Storage
from dreamprvr_jax.interop.inert_values import Opaque, Rule

# Element types of torch -> their numpy codes, without byte order.
# The types that numpy lacks are read as integers and widened to float32.
_DTYPES = {
  'float64': 'f8',
  'float32': 'f4',
  'float16': 'f2',
  'bfloat16': 'u2',
  'int64': 'i8',
  'int32': 'i4',
  'int16': 'i2',
  'int8': 'i1',
  'uint64': 'u8',
  'uint32': 'u4',
  'uint16': 'u2',
  'uint8': 'u1',
  'bool': 'u1',
  'complex128': 'c16',
  'complex64': 'c8',
  'float8_e4m3fn': 'u1',
  'float8_e4m3fnuz': 'u1',
  'float8_e5m2': 'u1',
  'float8_e5m2fnuz': 'u1',
  'float8_e8m0fnu': 'u1',
}
_STORAGES = {
  'DoubleStorage': 'float64',
  'FloatStorage': 'float32',
  'HalfStorage': 'float16',
  'BFloat16Storage': 'bfloat16',
  'LongStorage': 'int64',
  'IntStorage': 'int32',
  'ShortStorage': 'int16',
  'CharStorage': 'int8',
  'ByteStorage': 'uint8',
  'BoolStorage': 'bool',
  'ComplexDoubleStorage': 'complex128',
  'ComplexFloatStorage': 'complex64',
  'UntypedStorage': 'uint8',
}
# Views cost no memory, so a tiny storage can pose as a tensor of any size and
# exhaust whoever copies it. No weight of any model comes near these limits.
_MAX_ELEMENTS = 2**32
_MAX_DIMS = 32

# A view of at most this many elements may be larger than its storage, as an
# expanded one is.
_FEW_ELEMENTS = 2**20


class ArchiveError(UserError):
  """A file that is not a readable torch archive; the text says why."""


class Tensors:
  """The storages of an archive, and the rules for tensors that view them."""

  def __init__(self, member: Callable[[str], bytes], order: str):
    """Takes access to the storages.

    Args:
      member: Returns the bytes of a member of the archive's folder.
      order: '<' or '>', the byte order of numbers.
    """
    self._member = member
    self._order = order
    self._numbers: dict[tuple[str, str, tuple[str, ...]], np.ndarray] = {}

  def rules(self, call: Callable[[Record], Any]) -> dict[str, Rule]:
    """Returns the rules of torch's names; `call` applies one to a record."""
    data_only = lambda record, data, *rest: data

    def from_type(record, *rest):
      # A subclass of Tensor, or a tensor with attributes: function, class,
      # arguments, attributes. Calling the function makes one more record.
      match record.args:
        case (Name(module=module, name=name), _, tuple(args), *_):
          # torch nests none of these, and a file may nest any number.
          if name != '_rebuild_from_type_v2':
            return call(Record(module, name, args))
      return NotImplemented

    return {
      'torch._utils._rebuild_tensor': self._tensor_v2,
      'torch._utils._rebuild_tensor_v2': self._tensor_v2,
      'torch._utils._rebuild_tensor_v3': self._tensor_v3,
      'torch._utils._rebuild_parameter': data_only,
      'torch._utils._rebuild_parameter_with_state': data_only,
      'torch._tensor._rebuild_from_type_v2': from_type,
      'torch.Size': _size,
      'torch.device': _device,
      'torch.serialization._get_layout': lambda record, name: str(name),
    }

  def storage(self, storage: Storage) -> np.ndarray | Opaque:
    """Returns a storage that stands outside of any tensor."""
    if storage.kind in _STORAGES:
      return self._elements(storage, _STORAGES[storage.kind])
    return Opaque('torch', storage.kind, (storage.key, storage.numel))

  def _elements(
    self, storage: Storage, dtype: str, late: tuple[str, ...] = ()
  ) -> np.ndarray:
    """Returns all numbers of a storage, read only and in this machine's order.

    Widening, conjugation and negation happen here, once for all views, so the
    memory that they take is bounded by the file.
    """
    if (storage.key, dtype, late) in self._numbers:
      return self._numbers[storage.key, dtype, late]
    if late:
      numbers = self._elements(storage, dtype)
      if numbers.dtype == np.bool_:
        raise ArchiveError(
          f'storage {storage.key!r} has elements of type bool; '
          f'{" and ".join(late)} do not apply to these'
        )
      for name in late:
        numbers = np.conj(numbers) if name == 'conj' else np.negative(numbers)
      numbers.flags.writeable = False
      self._numbers[storage.key, dtype, late] = numbers
    else:
      if dtype not in _DTYPES:
        raise ArchiveError(
          f'storage {storage.key!r} has elements of type {dtype}; expected one '
          f'of {", ".join(_DTYPES)}'
        )
      raw = self._member(f'data/{storage.key}')
      own = np.dtype(_DTYPES[_STORAGES.get(storage.kind, dtype)])
      size = storage.numel * own.itemsize
      if not 0 <= size <= len(raw):
        raise ArchiveError(
          f'storage {storage.key!r} has {len(raw)} bytes; expected {size}'
        )
      stored = np.dtype(self._order + _DTYPES[dtype])
      numbers = np.frombuffer(raw, stored, size // stored.itemsize)
      self._numbers[storage.key, dtype, late] = _widen(numbers, dtype)
    return self._numbers[storage.key, dtype, late]

  def _tensor(self, storage, offset, shape, strides, dtype, late) -> np.ndarray:
    """Returns a read-only view of a storage, its bounds checked.

    `late` names operations that torch had put off: conjugation, negation.
    """
    _check_numbers(storage, offset, shape, strides)
    what = (
      f'tensor of shape {shape[:_MAX_DIMS]}, strides {strides[:_MAX_DIMS]} and '
      f'offset {offset} in storage {storage.key!r}'
    )
    if len(shape) != len(strides) or len(shape) > _MAX_DIMS:
      raise ArchiveError(
        f'{what}; expected one stride an axis, 32 axes at most'
      )
    size = math.prod(shape)
    if size > _MAX_ELEMENTS:
      raise ArchiveError(f'{what}; expected at most {_MAX_ELEMENTS} elements')
    elements = self._elements(storage, dtype, _late(late))
    if not size:
      # The other axes would count for a copy of it.
      if max(shape) > _MAX_ELEMENTS:
        raise ArchiveError(f'{what}; expected at most {_MAX_ELEMENTS} elements')
      return np.zeros(shape, elements.dtype)
    last = offset + sum(
      (n - 1) * stride for n, stride in zip(shape, strides, strict=True)
    )
    if last >= elements.size:
      raise ArchiveError(
        f'{what} needs {last + 1} elements; found {elements.size}'
      )
    if size > max(elements.size, _FEW_ELEMENTS):
      raise ArchiveError(
        f'{what} declares {size} elements; found {elements.size} stored'
      )
    return np.lib.stride_tricks.as_strided(
      elements[offset:],
      shape,
      [
        # The stride of an axis of length 1 may be any number.
        stride * elements.itemsize if n > 1 else 0
        for n, stride in zip(shape, strides, strict=True)
      ],
      writeable=False,
    )

  def _tensor_v2(
    self, record, storage, offset, shape, strides, grad=0, hooks=None, late=None
  ) -> np.ndarray:
    """The common form: the storage knows the element type."""
    del record, grad, hooks
    kind = getattr(storage, 'kind', '')
    dtype = _STORAGES.get(kind, kind)
    return self._tensor(storage, offset, shape, strides, dtype, late)

  def _tensor_v3(
    self, record, storage, offset, shape, strides, grad, hooks, dtype, late=None
  ) -> np.ndarray:
    """The form for newer element types: the storage is untyped bytes."""
    del record, grad, hooks
    dtype = dtype.removeprefix('torch.') if isinstance(dtype, str) else '?'
    return self._tensor(storage, offset, shape, strides, dtype, late)


def _late(given: Any) -> tuple[str, ...]:
  """Returns the operations that torch had put off for a tensor."""
  if not isinstance(given, dict):
    return ()
  return tuple(name for name in ('conj', 'neg') if given.get(name))


def _size(record: Record, shape: Any = ()) -> Any:
  del record
  return shape if isinstance(shape, tuple) else NotImplemented


def _device(record: Record, *names: Any) -> Any:
  del record
  if not all(isinstance(name, str | int) for name in names):
    return NotImplemented
  return ':'.join(map(str, names))


def _widen(numbers: np.ndarray, dtype: str) -> np.ndarray:
  """Returns stored numbers as a read-only array of the type's values."""
  native = numbers.astype(numbers.dtype.newbyteorder('='), copy=False)
  if dtype == 'bool':
    native = native != 0
  elif dtype == 'bfloat16':  # The upper half of a float32.
    native = (native.astype(np.uint32) << 16).view(np.float32)
  elif dtype.startswith('float8'):
    import ml_dtypes  # Comes with JAX; no other type needs it.

    native = native.view(getattr(ml_dtypes, dtype)).astype(np.float32)
  native.flags.writeable = False
  return native


def _check_numbers(storage: Any, offset: Any, shape: Any, strides: Any) -> None:
  """Raises ArchiveError unless a tensor's parts have the right types."""
  if not isinstance(storage, Storage):
    raise ArchiveError(
      f'a tensor of {type(storage).__name__}, not of a storage'
    )
  if not isinstance(shape, tuple) or not isinstance(strides, tuple):
    raise ArchiveError(
      'cannot rebuild torch._utils._rebuild_tensor from what the file gives '
      f'for it: shape and strides are {type(shape).__name__} and '
      f'{type(strides).__name__}, not tuples'
    )
  numbers = (offset, *shape, *strides)
  if not all(type(n) is int and n >= 0 for n in numbers):
    raise ArchiveError(
      f'a tensor in storage {storage.key!r} has a shape, strides or an '
      'offset that are wrong; expected integers, none of them negative'
    )


def name_value(module: str, name: str) -> Any:
  """Returns the value of a name that the file mentions without a call."""
  if module == 'torch' and name in _DTYPES:
    return f'torch.{name}'
  return NotImplemented
