"""Plain data from the records of an inert pickle.

Only records whose meaning is known become values: containers and numpy's
numbers here, whatever else a caller gives rules for. Each other one becomes an
`Opaque`.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from dreamprvr_jax.interop.inert_pickle import Record, Storage

# A rule takes a record and its arguments, which are plain but for storages,
# and returns a value, or NotImplemented if the record is to stay opaque.
Rule = Callable[..., Any]

_RECONSTRUCTORS = ('copy_reg._reconstructor', 'copyreg._reconstructor')


@dataclasses.dataclass(eq=False)
class Opaque:
  """Stands in for an object of a class that is neither imported nor run.

  Attributes:
    module: the module that the file names.
    name: the name in that module, with dots if nested.
    args: what the class or function would have been called with; None where
      the file only mentions it, as it does for a function kept in a dict.
    state: what the object's attributes would have been set from, most often a
      dict; None without one.
    items: what a subclass of dict would hold.
    entries: what a subclass of list or set would hold.
    kwargs: the keyword arguments next to `args`.
  """

  module: str
  name: str
  args: tuple | None = None
  state: Any = None
  items: dict = dataclasses.field(default_factory=dict)
  entries: list = dataclasses.field(default_factory=list)
  kwargs: dict = dataclasses.field(default_factory=dict)


class Rebuilder:
  """Turns what `load_records` returns into plain data.

  An object that the pickle mentions twice is rebuilt once, so that sharing and
  cycles survive. The records must outlive the rebuilder: it knows them by id.
  """

  def __init__(
    self,
    rules: dict[str, Rule],
    name_rule: Callable[[str, str], Any],
    storage_rule: Callable[[Storage], Any],
  ):
    """Takes what to do with the names that the containers here don't cover.

    Args:
      rules: full name ('module.name') of a callable to its rule.
      name_rule: from module and name to the value of a name that is mentioned
        without a call; may return NotImplemented.
      storage_rule: from a storage to its value where it stands alone.
    """
    self._rules = self._container_rules() | _NUMPY_RULES | rules
    self._name_rule = name_rule
    self._storage_rule = storage_rule
    self._done: dict[int, Any] = {}

  def plain(self, value: Any) -> Any:
    """Returns a value of the pickle as plain data.

    Args:
      value: the whole object or any part of it.

    Returns:
      The same data without records or storages.

    Raises:
      ValueError: for arguments that a rule cannot work with.
      RecursionError: for nesting beyond the interpreter's limit.
    """
    if id(value) in self._done:
      return self._done[id(value)]
    # Whatever may hold itself is noted before it is filled.
    if isinstance(value, list):
      result = self._done[id(value)] = []
      result.extend(map(self.plain, value))
    elif isinstance(value, dict):
      result = self._done[id(value)] = {}
      result.update(self._pairs(value.items()))
    elif isinstance(value, tuple):
      result = self._done[id(value)] = tuple(map(self.plain, value))
    elif isinstance(value, (set, frozenset)):
      items = [_hashable(self.plain(item)) for item in value]
      result = self._done[id(value)] = type(value)(items)
    elif isinstance(value, Storage):
      result = self._done[id(value)] = self._storage_rule(value)
    elif isinstance(value, Record):
      result = self.call(value)
      if result is NotImplemented:
        result = self._opaque(value)
      self._done[id(value)] = result
    elif isinstance(value, type):
      result = self._name_rule(value.module, value.name)
      if result is NotImplemented:
        result = Opaque(value.module, value.name)
      self._done[id(value)] = result
    else:
      result = value
    return result

  def call(self, record: Record) -> Any:
    """Returns what the record's rule makes of it, or NotImplemented."""
    rule = self._rules.get(f'{record.module}.{record.name}')
    if rule is None or record.kwargs:
      return NotImplemented
    args = [
      arg if isinstance(arg, Storage) else self.plain(arg)
      for arg in record.args
    ]
    try:
      return rule(record, *args)
    except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
      raise ValueError(
        f'cannot rebuild {record.module}.{record.name} from what the file '
        f'gives for it: {error}'
      ) from error

  def _pairs(self, items: Iterable[tuple]) -> list[tuple[Any, Any]]:
    return [(_hashable(self.plain(k)), self.plain(v)) for k, v in items]

  def _opaque(self, record: Record) -> Opaque:
    module, name, args = record.module, record.name, record.args
    # How protocols 0 and 1 construct an object: class, base, base's value.
    if f'{module}.{name}' in _RECONSTRUCTORS and isinstance(args[0], type):
      module, name, args = args[0].module, args[0].name, args[2:]
    result = self._done[id(record)] = Opaque(module, name)
    result.args = tuple(map(self.plain, args))
    result.kwargs = self.plain(record.kwargs)
    result.state = self.plain(record.state)
    result.entries = self.plain(record.entries)
    result.items.update(self._pairs(record.items))
    return result

  def _container_rules(self) -> dict[str, Rule]:
    return {
      'builtins.dict': self._dict,
      'collections.OrderedDict': self._dict,
      'collections.Counter': self._dict,
      'collections.defaultdict': self._dict,
      'builtins.list': self._list,
      'collections.deque': self._list,
      'builtins.tuple': lambda record, items=(): tuple(items),
      'builtins.set': self._set,
      'builtins.frozenset': lambda *args: frozenset(self._set(*args)),
      'builtins.bytes': _bytes,
      'builtins.bytearray': _bytes,
      'builtins.complex': lambda record, real, imag: complex(real, imag),
      '_codecs.encode': _bytes,
      'numpy.core.multiarray._reconstruct': self._numpy_array,
      'numpy._core.multiarray._reconstruct': self._numpy_array,
    }

  def _dict(self, record: Record, *args: Any) -> dict:
    # The first argument of defaultdict is its factory, which has no use here.
    result = dict(*[a for a in args if isinstance(a, (dict, list, tuple))])
    self._done[id(record)] = result
    result.update(self._pairs(record.items))
    return result

  def _list(self, record: Record, items=(), maxlen: int | None = None) -> list:
    del maxlen  # Of a deque; the entries are within it already.
    result = self._done[id(record)] = list(items)
    result.extend(map(self.plain, record.entries))
    return result

  def _set(self, record: Record, items=()) -> set:
    entries = map(self.plain, record.entries)
    return {_hashable(item) for item in (*items, *entries)}

  def _numpy_array(self, record: Record, *args: Any) -> Any:
    """Returns an array, whose content is in the record's state."""
    del args  # The class and a placeholder for the shape.
    _, shape, dtype, is_fortran, data = self.plain(record.state)
    order = 'F' if is_fortran else 'C'
    return _numpy_buffer(record, data, dtype, shape, order)


def _hashable(value: Any) -> Any:
  """Returns the value, wrapped if it cannot be a key as plain data."""
  try:
    hash(value)
  except TypeError:
    return Opaque('', 'key', (value,))
  return value


def _bytes(record: Record, text='', encoding: str = 'latin1') -> Any:
  """Returns bytes, which older protocols write as text."""
  del record
  if isinstance(text, (bytes, bytearray)):
    return bytes(text)
  # A number would ask for that many zero bytes; another codec could expand.
  if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
    return NotImplemented
  return text.encode('latin1')


def _numpy_dtype(record: Record, kind: str, *flags: Any) -> Any:
  del flags  # Whether to align and to copy.
  # Neither objects nor structures: numbers and strings only.
  if not re.fullmatch(r'\?|[biufcSU]\d{1,5}', kind):
    return NotImplemented
  order = '='
  if isinstance(record.state, tuple) and record.state[1] in ('<', '>'):
    order = record.state[1]
  return np.dtype(kind).newbyteorder(order)


def _numpy_scalar(record: Record, dtype: Any, data: Any = None) -> Any:
  del record
  if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
    return NotImplemented
  return np.frombuffer(data, dtype, 1)[0].item()


def _numpy_buffer(
  record: Record, data: Any, dtype: Any, shape: Any, order: str
) -> Any:
  del record
  is_data = isinstance(data, (bytes, bytearray))
  if not isinstance(dtype, np.dtype) or not is_data:
    return NotImplemented
  array = np.frombuffer(bytes(data), dtype)
  return array.reshape(shape, order='F' if order == 'F' else 'C')


# numpy 2 renamed the package that its pickles mention.
_NUMPY_RULES: dict[str, Rule] = {
  'numpy.dtype': _numpy_dtype,
  'numpy.core.multiarray.scalar': _numpy_scalar,
  'numpy._core.multiarray.scalar': _numpy_scalar,
  'numpy.core.numeric._frombuffer': _numpy_buffer,
  'numpy._core.numeric._frombuffer': _numpy_buffer,
}
