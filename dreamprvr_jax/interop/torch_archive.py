"""Reads the files of `torch.save` without torch and without trusting them.

Such a file is a zip archive: `data.pkl` is a pickle of the saved object, and
`data/<key>` holds the raw numbers of each storage that its tensors look into.
A pickle can name any function and have it called. So it is read into inert
records first (`inert_pickle`), which turn into plain data by fixed rules
(`inert_values`; those for tensors are here). Nothing that the file names is
ever imported or run.
"""

import math
import os
import struct
import zipfile
from typing import Any

import numpy as np

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.interop.inert_pickle import Storage, load_records
from dreamprvr_jax.interop.inert_values import Opaque, Rebuilder

# What torch calls an element type -> how numpy reads it, without byte order.
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

# What zipfile raises for a member that it cannot read.
_DAMAGE = (zipfile.BadZipFile, EOFError, OSError, RuntimeError, struct.error)

_RESAVE = 'load it with torch and save it again with torch >= 1.6'


class ArchiveError(UserError):
  """The file is no readable torch archive; the text says why."""


def read_archive(path: str | os.PathLike) -> Any:
  """Returns the object that `torch.save` wrote, as plain data.

  Dicts of every kind come back as dict (keys in their order; a state dict's
  `_metadata` is dropped), deques as list, `torch.Size` as tuple, devices and
  element types as str ('cuda:0', 'torch.float32'), numpy scalars as Python
  numbers. Tensors and parameters come back as read-only numpy arrays with
  the tensor's shape and element type, except that bfloat16 and the float8
  types become float32. Tensors that shared a storage share memory here too.
  Objects of other classes, quantised and sparse tensors among them, come back
  as `Opaque`; so does a dict key that cannot be one as plain data, such as a
  tensor (`Opaque.args` then holds it).

  Args:
    path: a file written by `torch.save` of torch 1.6 or later.

  Returns:
    The object.

  Raises:
    ArchiveError: for a file in another format or in the older ones of torch,
      a damaged or truncated file, or a tensor that reaches outside its
      storage.
    OSError: where the file cannot be opened.
  """
  path = os.fspath(path)
  with open(path, 'rb') as file:
    start = file.read(512)
    try:
      archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
      raise ArchiveError(f'{path}: {_diagnose(start)}.') from error
    with archive:
      try:
        return _Reader(archive).read()
      except RecursionError as error:
        raise ArchiveError(
          f'{path}: the object is nested too deeply, or holds itself where '
          'plain data cannot.'
        ) from error
      except ValueError as error:
        raise ArchiveError(f'{path}: {error}.') from error


def _diagnose(start: bytes) -> str:
  """Returns what a file that is no zip archive is, from its first bytes."""
  expected = 'expected a zip archive written by torch.save'
  if start.startswith(b'PK\x03\x04'):
    return f'the zip archive is truncated or damaged; {expected}'
  if start.startswith(b'\x80') and b'\x6c\xfc\x9c\x46\xf9\x20' in start[:16]:
    return f'a torch file in the format before torch 1.6; {_RESAVE}'
  if start.startswith(b'\x80'):
    return f'a bare pickle, not a zip archive; {_RESAVE} if torch wrote it'
  if start[257:262] == b'ustar':
    return f'a tar file, the oldest format of torch; {_RESAVE}'
  if not start:
    return f'the file is empty; {expected}'
  return f'not a zip archive (it starts with {start[:8]!r}); {expected}'


class _Reader:
  """One open archive: its members, storages and tensors."""

  def __init__(self, archive: zipfile.ZipFile):
    self._archive = archive
    names = archive.namelist()
    roots = [n for n in names if n == 'data.pkl' or n.endswith('/data.pkl')]
    if len(roots) != 1:
      found = ', '.join(roots or names[:5]) or 'no members at all'
      raise ArchiveError(f'expected one member data.pkl; found {found}')
    # The folder is named after the file, or just `archive`.
    self._prefix = roots[0].removesuffix('data.pkl')
    if self._prefix + 'constants.pkl' in names:
      raise ArchiveError(
        'a TorchScript program; expected a file written by torch.save'
      )
    order = b'little'  # Archives before torch 2.1 don't say.
    if self._prefix + 'byteorder' in names:
      order = self._member('byteorder').strip()
    if order not in (b'little', b'big'):
      raise ArchiveError(f'byte order {order!r}; expected little or big')
    self._order = '<' if order == b'little' else '>'
    self._numbers: dict[tuple[str, str], np.ndarray] = {}

  def read(self) -> Any:
    data = self._member('data.pkl')
    try:
      root = load_records(data)
    except RecursionError:
      raise
    except Exception as error:  # A damaged pickle fails in any possible way.
      reason = str(error).rstrip('.') or type(error).__name__
      raise ArchiveError(f'data.pkl is no readable pickle: {reason}') from error
    rules = {
      'torch._utils._rebuild_tensor': self._tensor_v2,
      'torch._utils._rebuild_tensor_v2': self._tensor_v2,
      'torch._utils._rebuild_tensor_v3': self._tensor_v3,
      'torch._utils._rebuild_parameter': lambda record, data, *rest: data,
      'torch._utils._rebuild_parameter_with_state': (
        lambda record, data, *rest: data
      ),
      # A subclass of Tensor, or a tensor with attributes: function, class,
      # arguments, attributes. Calling the function makes one more record.
      'torch._tensor._rebuild_from_type_v2': (
        lambda record, *rest: rebuilder.call(record.args[0](*record.args[2]))
      ),
      'torch.Size': lambda record, shape=(): tuple(shape),
      'torch.device': lambda record, *names: ':'.join(map(str, names)),
      'torch.serialization._get_layout': lambda record, name: str(name),
    }
    rebuilder = Rebuilder(rules, _name, self._storage)
    return rebuilder.plain(root)

  def _member(self, name: str) -> bytes:
    """Returns the content of a member of the archive's folder."""
    try:
      info = self._archive.getinfo(self._prefix + name)
      # torch compresses nothing, and compressed zeros grow a thousandfold.
      if info.compress_type != zipfile.ZIP_STORED:
        raise ArchiveError(f'member {name} is compressed; {_RESAVE}')
      return self._archive.read(info)
    except KeyError as error:
      raise ArchiveError(f'expected a member {name}; found none') from error
    except _DAMAGE as error:
      raise ArchiveError(f'member {name} is damaged: {error}') from error

  def _storage(self, storage: Storage) -> np.ndarray | Opaque:
    """Returns a storage that stands outside of any tensor."""
    if storage.kind in _STORAGES:
      return self._elements(storage, _STORAGES[storage.kind])
    return Opaque('torch', storage.kind, (storage.key, storage.numel))

  def _elements(self, storage: Storage, dtype: str) -> np.ndarray:
    """Returns all numbers of a storage, read only and in this machine's order.

    Widening happens here, once for all views, and so is bounded by the file.
    """
    if (storage.key, dtype) not in self._numbers:
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
          f'storage {storage.key!r} holds {len(raw)} bytes; expected {size}'
        )
      stored = np.dtype(self._order + _DTYPES[dtype])
      numbers = np.frombuffer(raw, stored, size // stored.itemsize)
      self._numbers[storage.key, dtype] = _widen(numbers, dtype)
    return self._numbers[storage.key, dtype]

  def _tensor(self, storage, offset, shape, strides, dtype, late) -> np.ndarray:
    """Returns a read-only view of a storage, its bounds checked.

    `late` names operations that torch had put off: conjugation, negation.
    """
    if not isinstance(storage, Storage):
      raise ArchiveError(
        f'a tensor of {type(storage).__name__}, not of a storage'
      )
    what = (
      f'tensor of shape {shape}, strides {strides} and offset {offset} in '
      f'storage {storage.key!r}'
    )
    numbers = (offset, *shape, *strides)
    if not all(type(n) is int and n >= 0 for n in numbers):
      raise ArchiveError(f'{what}; expected integers, none of them negative')
    if len(shape) != len(strides) or len(shape) > _MAX_DIMS:
      raise ArchiveError(
        f'{what}; expected one stride an axis, 32 axes at most'
      )
    if math.prod(shape) > _MAX_ELEMENTS:
      raise ArchiveError(f'{what}; expected at most {_MAX_ELEMENTS} elements')
    elements = self._elements(storage, dtype)
    if 0 in shape:
      return np.zeros(shape, elements.dtype)
    last = offset + sum(
      (n - 1) * stride for n, stride in zip(shape, strides, strict=True)
    )
    if last >= elements.size:
      raise ArchiveError(
        f'{what} needs {last + 1} elements; found {elements.size}'
      )
    # Applied to the storage rather than to the view, which may be far larger.
    if late and late.get('conj'):
      elements = np.conj(elements)
    if late and late.get('neg'):
      elements = np.negative(elements)
    return np.lib.stride_tricks.as_strided(
      elements[offset:],
      shape,
      [stride * elements.itemsize for stride in strides],
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
    """The form for newer element types: the storage holds mere bytes."""
    del record, grad, hooks
    dtype = str(dtype).removeprefix('torch.')
    return self._tensor(storage, offset, shape, strides, dtype, late)


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


def _name(module: str, name: str) -> Any:
  """Returns what a name means that the file mentions without a call."""
  if module == 'torch' and name in _DTYPES:
    return f'torch.{name}'
  return NotImplemented
