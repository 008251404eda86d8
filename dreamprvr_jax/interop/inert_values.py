"""Plain data from the records of an inert pickle.

Records with a known meaning become values: containers and numpy's numbers by
the rules here, others by the caller's rules. All other records become an
`Opaque`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from dreamprvr_jax.interop import inert_numpy
from dreamprvr_jax.interop.inert_pickle import (
  External,
  Name,
  Record,
  Storage,
  is_flat,
  short,
)

# A rule takes a record and its arguments, which are plain except for storages.
# It returns a value, or NotImplemented to leave the record opaque, and raises
# ValueError for bad arguments.
Rule = Callable[..., Any]

_RECONSTRUCTORS = ('copy_reg._reconstructor', 'copyreg._reconstructor')
# Depth of containers in containers: far more than any program stores, and
# below Python's own limit.
MAX_DEPTH = 100


@dataclasses.dataclass(eq=False)
class Opaque:
  """Stands for an object of a class that is neither imported nor run.

  Attributes:
    module: The module that the file names.
    name: The name in that module, with dots if nested.
    args: Arguments of the class or function; None where the file mentions it
      without a call, as it does for a function in a dict.
    state: Value for the object's attributes, most often a dict; None without
      one.
    items: Items of a subclass of dict.
    entries: Entries of a subclass of list or set.
    kwargs: Keyword arguments beside `args`.
    problem: Why its rule gave no value; '' if it has no rule.
  """

  module: str
  name: str
  args: tuple | None = None
  state: Any = None
  items: dict = dataclasses.field(default_factory=dict)
  entries: list = dataclasses.field(default_factory=list)
  kwargs: dict = dataclasses.field(default_factory=dict)
  problem: str = ''


class Rebuilder:
  """Turns what `load_records` returns into plain data.

  An object that the pickle mentions twice is rebuilt once, so sharing and
  cycles survive. The records must outlive the rebuilder, which knows them by
  id.
  """

  def __init__(
    self,
    rules: dict[str, Rule],
    name_rule: Callable[[str, str], Any],
    storage_rule: Callable[[Storage], Any],
    *,
    lenient: bool = False,
  ):
    """Takes rules beside those for containers and numpy.

    Args:
      rules: Full name ('module.name') of a callable -> its rule.
      name_rule: From module and name to the value of a name without a call;
        may return NotImplemented.
      storage_rule: From a storage to its value where it stands alone.
      lenient: Whether a value that cannot be rebuilt becomes an `Opaque` with
        its `problem`, so that the rest is rebuilt.
    """
    self._rules = self._container_rules() | inert_numpy.RULES | rules
    self._name_rule = name_rule
    self._storage_rule = storage_rule
    self._lenient = lenient
    self._done: dict[int, Any] = {}
    self._texts: dict[int, tuple[Any, Any]] = {}
    self._depth = 0

  def plain(self, value: Any) -> Any:
    """Returns a value of the pickle as plain data.

    Args:
      value: The whole object or any part of it.

    Returns:
      The same data without records or storages.

    Raises:
      ValueError: For bad arguments of a rule, or nesting beyond `MAX_DEPTH`;
        not if lenient.
    """
    if not isinstance(value, (list, tuple, Record, Name, Storage, External)):
      return value
    if id(value) in self._done:
      return self._done[id(value)]
    if self._depth == MAX_DEPTH:
      return self._failed(
        value,
        ValueError(
          f'the object is nested too deeply; expected {MAX_DEPTH} containers '
          'in one another at most'
        ),
      )
    self._depth += 1
    try:
      result = self._rebuilt(value)
    except ValueError as error:
      result = self._failed(value, error)
    finally:
      self._depth -= 1
    self._done[id(value)] = result
    return result

  def call(self, record: Record) -> Any:
    """Returns the value by the record's rule, or NotImplemented.

    Raises:
      ValueError: For bad arguments of the rule.
    """
    name = f'{record.module}.{record.name}'
    rule = self._rules.get(name)
    if rule is None or record.kwargs:
      return NotImplemented
    args = [
      arg if isinstance(arg, Storage) else self.plain(arg)
      for arg in record.args
    ]
    try:
      inspect.signature(rule).bind(record, *args)
    except TypeError as error:
      raise ValueError(
        f'cannot rebuild {name} from what the file gives for it: {error}'
      ) from error
    return rule(record, *args)

  def _rebuilt(self, value: Any) -> Any:
    # A container that may contain itself is noted before it is filled.
    if isinstance(value, list):
      result = self._done[id(value)] = []
      for item in value:
        result.append(self.plain(item))
      return result
    if isinstance(value, tuple):
      return tuple([self.plain(item) for item in value])
    if isinstance(value, Storage):
      return self._storage_rule(value)
    if isinstance(value, External):
      raise ValueError(
        f'unknown kind of external object: {short(value.reference)}'
      )
    if isinstance(value, Name):
      result = self._name_rule(value.module, value.name)
      if result is NotImplemented:
        result = Opaque(value.module, value.name)
      return result
    result = self.call(value)
    return self._opaque(value) if result is NotImplemented else result

  def _failed(self, value: Any, error: ValueError) -> Opaque:
    if not self._lenient:
      raise error
    module, name = getattr(value, 'module', ''), getattr(value, 'name', '')
    return Opaque(module, name, problem=str(error))

  def _pairs(self, items: Iterable[tuple]) -> list[tuple[Any, Any]]:
    return [(_as_key(self.plain(k)), self.plain(v)) for k, v in items]

  def _opaque(self, record: Record) -> Opaque:
    module, name, args = record.module, record.name, record.args
    # How protocols 0 and 1 construct an object: class, base, base's value.
    if (
      f'{module}.{name}' in _RECONSTRUCTORS
      and len(args) == 3
      and isinstance(args[0], Name)
    ):
      module, name, args = args[0].module, args[0].name, args[2:]
    result = self._done[id(record)] = Opaque(module, name)
    result.args = tuple([self.plain(arg) for arg in args])
    if record.kwargs:
      result.kwargs = dict(self._pairs(record.kwargs.items))
    result.state = self.plain(record.state)
    result.entries = [self.plain(entry) for entry in record.entries]
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
      'builtins.tuple': lambda record, items=(): tuple(_listed(items)),
      'builtins.set': self._set,
      'builtins.frozenset': lambda *args: frozenset(self._set(*args)),
      'builtins.bytes': _bytes,
      'builtins.bytearray': _bytes,
      'builtins.complex': _complex,
      '_codecs.encode': self._encoded,
      'numpy.core.multiarray._reconstruct': self._numpy_array,
      'numpy._core.multiarray._reconstruct': self._numpy_array,
    }

  def _encoded(self, record: Record, text='', encoding: str = 'latin1') -> Any:
    """Returns bytes, once for all objects that are made of one text."""
    if id(text) not in self._texts:
      made = _bytes(record, text, encoding)
      if not isinstance(made, bytes):
        return made
      # The text is kept, too: another one could get its id.
      self._texts[id(text)] = text, made
    return self._texts[id(text)][1]

  def _dict(self, record: Record, *args: Any) -> dict:
    # The first argument of defaultdict is its factory, which has no use here.
    result = self._done[id(record)] = {}
    for given in args:
      if isinstance(given, dict):
        result.update(given)
      elif isinstance(given, (list, tuple)):
        for pair in given:
          if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f'a dict of {short(pair)}; expected pairs')
          result[_as_key(pair[0])] = pair[1]
    result.update(self._pairs(record.items))
    return result

  def _list(self, record: Record, items=(), maxlen: int | None = None) -> list:
    del maxlen  # A deque's limit; its entries are within it already.
    result = self._done[id(record)] = _listed(items)
    for entry in record.entries:
      result.append(self.plain(entry))
    return result

  def _set(self, record: Record, items=()) -> set:
    entries = [self.plain(entry) for entry in record.entries]
    return {_as_key(item) for item in (*_listed(items), *entries)}

  def _numpy_array(self, record: Record, *args: Any) -> Any:
    """Returns an array; its content is in the record's state."""
    del args  # The class and a placeholder for the shape.
    return inert_numpy.array_of(self.plain(record.state))


def _listed(items: Any) -> list:
  if not isinstance(items, (list, tuple, set, frozenset, dict)):
    raise ValueError(f'a container of {short(items)}')
  return list(items)


def _as_key(value: Any) -> Any:
  """Returns the value, wrapped if it cannot be a key as plain data.

  Only flat tuples are keys: hashing nested tuples that share their parts may
  take for ever.
  """
  if is_flat(value) or isinstance(value, (np.dtype, Opaque)):
    return value
  if isinstance(value, tuple) and all(is_flat(item) for item in value):
    return value
  return Opaque('', 'key', (value,))


def _bytes(record: Record, text='', encoding: str = 'latin1') -> Any:
  """Returns bytes, which older protocols write as text."""
  del record
  if isinstance(text, (bytes, bytearray)):
    return bytes(text)
  # bytes(number) makes that many zero bytes; another codec could expand.
  if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
    return NotImplemented
  return text.encode('latin1')


def _complex(record: Record, real: Any, imag: Any) -> Any:
  del record
  if not isinstance(real, float) or not isinstance(imag, float):
    return NotImplemented
  return complex(real, imag)
