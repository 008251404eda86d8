"""Reads pickles without running anything that they name.

A pickle is a program for a small machine, and one of its operations calls any
function by its name. The machine here has no such operation: a name stays a
name, a call becomes a record of itself, and the pickle reaches no code outside
this file. The caller decides what the records mean.
"""

import dataclasses
import pickletools
from collections.abc import Iterator
from typing import Any

# A dict is a record, too: its keys may not be hashable.
_MADE = {
  'EMPTY_DICT': 'dict',
  'EMPTY_SET': 'set',
  'DICT': 'dict',
  'FROZENSET': 'frozenset',
}
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_LITERALS = {
  'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4',
  'STRING', 'BINSTRING', 'SHORT_BINSTRING', 'UNICODE', 'SHORT_BINUNICODE',
  'BINUNICODE', 'BINUNICODE8', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8',
  'BYTEARRAY8', 'FLOAT', 'BINFLOAT',
}  # fmt: skip
_PUTS = {'PUT', 'BINPUT', 'LONG_BINPUT'}
_IGNORED = {'PROTO', 'FRAME', 'READONLY_BUFFER'}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
_MARK = object()
_FLAT = (str, bytes, int, float, complex, bool, type(None))


class PickleError(ValueError):
  """Bytes that are no proper pickle."""


@dataclasses.dataclass(frozen=True, eq=False)
class Name:
  """A class or function that the pickle mentions."""

  module: str
  name: str


@dataclasses.dataclass(eq=False)
class Record:
  """A call in the pickle, remembered instead of made.

  Attributes:
    module: Module of the called name; '' for a call of something else.
    name: The name in that module.
    args: Arguments; for a call of something else, that comes first.
    kwargs: Keyword arguments, a record of a dict; None without any.
    state: Value that its attributes are set from; None without one.
    entries: Values appended or added to the result.
    items: (key, value) pairs set in the result.
  """

  module: str
  name: str
  args: tuple = ()
  kwargs: 'Record | None' = None
  state: Any = None
  entries: list = dataclasses.field(default_factory=list)
  items: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
  """A storage as the pickle refers to it: its class, member name and size."""

  kind: str
  key: str
  numel: int


@dataclasses.dataclass(frozen=True, eq=False)
class External:
  """A reference to another object outside of the pickle."""

  reference: Any


def load_records(data: bytes) -> Any:
  """Returns the object of a pickle, with a `Record` for every call in it.

  Lists, tuples, numbers, strings, bytes and None are themselves; dicts and
  sets are records of 'builtins.dict' and 'builtins.set'. A name that is
  mentioned without being called is a `Name`, a reference to a torch storage a
  `Storage`.

  Args:
    data: The pickle, of any protocol.

  Raises:
    PickleError: For bytes that are no proper pickle.
  """
  machine = _Machine()
  for name, argument in _operations(data):
    if name == 'STOP':
      return machine.pop()
    if name in _PUTS and not 0 <= argument <= len(data):
      raise PickleError(f'memo index {argument} is out of bounds')
    machine.run(name, argument)
  raise PickleError('it has no end')


def _operations(data: bytes) -> Iterator[tuple[str, Any]]:
  try:
    for operation, argument, _ in pickletools.genops(data):
      yield operation.name, argument
  except ValueError as error:  # What genops raises for bytes it cannot read.
    raise PickleError(str(error).rstrip('.')) from error


class _Machine:
  """The stack and the memo that a pickle works on."""

  def __init__(self):
    self._stack: list[Any] = []
    self._memo: dict[int, Any] = {}

  def pop(self) -> Any:
    if not self._stack or self._stack[-1] is _MARK:
      raise PickleError('an operation finds nothing to work on')
    return self._stack.pop()

  def run(self, name: str, argument: Any) -> None:
    """Does one operation, STOP excepted.

    Raises:
      PickleError: If it is unknown or cannot be done.
    """
    if name in _LITERALS:
      self._push(argument)
    elif name in _CONSTANTS:
      self._push(_CONSTANTS[name])
    elif name in _IGNORED:
      pass
    elif name in ('GET', 'BINGET', 'LONG_BINGET'):
      if argument not in self._memo:
        raise PickleError(f'it recalls {argument}, which was not kept')
      self._push(self._memo[argument])
    elif name in _PUTS or name == 'MEMOIZE':
      index = len(self._memo) if name == 'MEMOIZE' else argument
      self._memo[index] = self._top()
    elif name == 'MARK':
      self._stack.append(_MARK)
    elif name == 'POP':
      if not self._stack:
        raise PickleError('an operation finds nothing to work on')
      self._stack.pop()
    elif name == 'POP_MARK':
      self._since_mark()
    elif name == 'DUP':
      self._push(self._top())
    elif name == 'EMPTY_LIST':
      self._push([])
    elif name == 'LIST':
      self._push(self._since_mark())
    elif name == 'EMPTY_TUPLE':
      self._push(())
    elif name == 'TUPLE':
      self._push(tuple(self._since_mark()))
    elif name in _TUPLES:
      self._push(tuple(self._popped(_TUPLES[name])))
    elif name in _MADE:
      made = Record('builtins', _MADE[name])
      if name == 'DICT':
        made.items += _pairs(self._since_mark())
      elif name == 'FROZENSET':
        made.args = (self._since_mark(),)
      self._push(made)
    else:
      self._fill_or_call(name, argument)

  def _fill_or_call(self, name: str, argument: Any) -> None:
    if name in ('APPEND', 'APPENDS', 'ADDITEMS'):
      values = [self.pop()] if name == 'APPEND' else self._since_mark()
      target = self._top()
      if isinstance(target, Record):
        target.entries += values
      elif isinstance(target, list):
        target += values
      else:
        raise PickleError(f'it adds to a {type(target).__name__}')
    elif name in ('SETITEM', 'SETITEMS'):
      values = self._popped(2) if name == 'SETITEM' else self._since_mark()
      self._record('it sets items').items += _pairs(values)
    elif name == 'BUILD':
      state = self.pop()
      self._record('it sets attributes').state = state
    elif name in ('GLOBAL', 'STACK_GLOBAL'):
      if name == 'GLOBAL':
        module, _, attribute = argument.partition(' ')
      else:
        module, attribute = self._popped(2)
      self._push(_name(module, attribute))
    elif name == 'INST':
      module, _, attribute = argument.partition(' ')
      self._call(_name(module, attribute), tuple(self._since_mark()))
    elif name == 'OBJ':
      called, *args = self._since_mark() or [None]
      self._call(called, tuple(args))
    elif name in ('REDUCE', 'NEWOBJ'):
      self._call(*self._popped(2))
    elif name == 'NEWOBJ_EX':
      called, args, kwargs = self._popped(3)
      self._call(called, args)
      if not isinstance(kwargs, Record):
        raise PickleError('keyword arguments are no dict')
      self._top().kwargs = kwargs if kwargs.items else None
    elif name in ('PERSID', 'BINPERSID'):
      self._push(_external(argument if name == 'PERSID' else self.pop()))
    else:
      raise PickleError(f'it uses {name}, which stands for code elsewhere')

  def _push(self, value: Any) -> None:
    self._stack.append(value)

  def _top(self) -> Any:
    value = self.pop()
    self._stack.append(value)
    return value

  def _popped(self, count: int) -> list[Any]:
    """Returns the last values of the stack, oldest first."""
    return [self.pop() for _ in range(count)][::-1]

  def _since_mark(self) -> list[Any]:
    """Removes the last mark and returns the values above it."""
    values = []
    while self._stack and self._stack[-1] is not _MARK:
      values.append(self._stack.pop())
    if not self._stack:
      raise PickleError('a mark is missing')
    self._stack.pop()
    return values[::-1]

  def _record(self, what: str) -> Record:
    target = self._top()
    if isinstance(target, Storage):
      raise PickleError('a storage has no state to be set')
    if not isinstance(target, Record):
      raise PickleError(f'{what} of a {type(target).__name__}')
    return target

  def _call(self, called: Any, args: Any) -> None:
    if not isinstance(args, tuple):
      raise PickleError(f'the arguments of a call are {type(args).__name__}')
    if isinstance(called, Name):
      self._push(Record(called.module, called.name, args))
    else:
      self._push(Record('', 'call', (called, *args)))


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
  if len(values) % 2:
    raise PickleError('a key has no value')
  return list(zip(values[::2], values[1::2], strict=True))


def _name(module: Any, name: Any) -> Name:
  if not isinstance(module, str) or not isinstance(name, str):
    raise PickleError('a name is not text')
  # Python 2's name of the module, used by old protocols.
  return Name('builtins' if module == '__builtin__' else module, name)


def _external(reference: Any) -> Storage | External:
  match reference:
    case ('storage', Name(name=kind), str(key), _, int(numel), *_):
      return Storage(kind, key, numel)
  return External(reference)


def short(value: Any) -> str:
  """Returns a value as text for a message, whatever its content."""
  if isinstance(value, _FLAT):
    return repr(value)[:80]
  if isinstance(value, (tuple, list)):
    return f'({", ".join(short(v) for v in value[:3] if is_flat(v))}, ...)'
  return f'a {type(value).__name__}'


def is_flat(value: Any) -> bool:
  """Returns whether a value is a number, a text, bytes or None."""
  return isinstance(value, _FLAT)
