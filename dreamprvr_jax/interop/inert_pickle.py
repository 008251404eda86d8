"""Unpickling in which nothing can happen.

A pickle can name any function and have it called. Here every name, whatever
it is, becomes an inert class that only remembers what was done to it: nothing
is imported, and no callable outside this file is reachable from the pickle.
What the records mean is for the caller to decide.
"""

import dataclasses
import io
import pickle
import pickletools
from typing import Any

_PUTS = ('PUT', 'BINPUT', 'LONG_BINPUT')


def load_records(data: bytes) -> Any:
  """Returns the object of a pickle, with a `Record` for every call in it.

  Plain containers, numbers, strings, bytes and None are themselves. A name
  that is mentioned without being called is a subclass of `Record`. A
  reference to a torch storage is a `Storage`.

  Args:
    data: the pickle, of any protocol.

  Returns:
    The object.

  Raises:
    Exception: of many types, for bytes that are no proper pickle.
  """
  for opcode, index, _ in pickletools.genops(data):
    # The memo is as long as its largest index: a few bytes could fill memory.
    if opcode.name in _PUTS and isinstance(index, int) and index > len(data):
      raise pickle.UnpicklingError(f'memo index {index} is out of bounds')
  return _Unpickler(io.BytesIO(data)).load()


class Record:
  """What the pickle did with one name: nothing but remembering.

  Unpickling calls the class (construction and plain function calls alike),
  then may set a state, add entries and set items. Each name has its own
  subclass because some opcodes insist on a class.
  """

  __slots__ = ('args', 'entries', 'items', 'kwargs', 'state')
  module = ''
  name = ''

  def __new__(cls, /, *args, **kwargs):
    self = object.__new__(cls)
    self.args = args
    self.kwargs = kwargs
    self.state = None
    self.entries = []
    self.items = []
    return self

  def __setstate__(self, state):
    self.state = state

  def __setitem__(self, key, value):
    self.items.append((key, value))

  def append(self, value):
    self.entries.append(value)

  def extend(self, values):
    self.entries.extend(values)

  def add(self, value):
    self.entries.append(value)


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
  """A storage as the pickle refers to it: its class, member name and size."""

  kind: str
  key: str
  numel: int

  def __setstate__(self, state):
    # Without this, the pickle could set the fields to anything.
    raise pickle.UnpicklingError('a storage has no state to be set')


class _Unpickler(pickle.Unpickler):
  """Turns every name into a `Record` class and storages into `Storage`."""

  def __init__(self, file: io.BytesIO):
    super().__init__(file)
    self._classes: dict[tuple[str, str], type[Record]] = {}

  def find_class(self, module: str, name: str, /) -> type[Record]:
    if module == '__builtin__':  # Python 2's name, used by old protocols.
      module = 'builtins'
    if (module, name) not in self._classes:
      attributes = {'__slots__': (), 'module': module, 'name': name}
      self._classes[module, name] = type('_Named', (Record,), attributes)
    return self._classes[module, name]

  def persistent_load(self, pid: Any, /) -> Storage:
    match pid:
      case ('storage', type() as kind, str(key), _, int(numel), *_):
        return Storage(getattr(kind, 'name', '?'), key, numel)
    raise pickle.UnpicklingError(f'unknown kind of external object: {pid!r}')
