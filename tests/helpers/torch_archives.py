"""Torch archives assembled by hand, opcode by opcode, without torch."""

import dataclasses
import pickle
import struct
import zipfile
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Name:
  """A class or function that the file names."""

  module: str
  name: str


@dataclasses.dataclass(frozen=True)
class Call:
  """A call, and the operations on its result."""

  name: Name
  args: tuple = ()
  state: Any = None
  items: tuple = ()
  entries: tuple = ()


@dataclasses.dataclass(frozen=True)
class Pid:
  """A reference to an object outside the pickle."""

  value: Any


def opcodes(value: Any) -> bytes:
  """Returns the opcodes of protocol 2 that put a value on the stack."""
  match value:
    case Name(module, name):
      return f'c{module}\n{name}\n'.encode()
    case Pid(inner):
      return opcodes(inner) + b'Q'
    case Call():
      code = opcodes(value.name) + opcodes(value.args) + b'R'
      for key, item in value.items:
        code += opcodes(key) + opcodes(item) + b's'
      for entry in value.entries:
        code += opcodes(entry) + b'a'
      return code if value.state is None else code + opcodes(value.state) + b'b'
    case dict():
      pairs = (opcodes(k) + opcodes(v) + b's' for k, v in value.items())
      return b'}' + b''.join(pairs)
    case list():
      return b']' + b''.join(opcodes(item) + b'a' for item in value)
    case tuple():
      return b'(' + b''.join(map(opcodes, value)) + b't'
    case bytes():
      text = value.decode('latin1')
      return opcodes(Call(Name('_codecs', 'encode'), (text, 'latin1')))
    case str():
      text = value.encode()
      return b'X' + struct.pack('<I', len(text)) + text
  return pickle.dumps(value, 2)[2:-1]  # Numbers and None without their frame.


def storage(key, kind='Float', numel=6, module='torch'):
  kind = Name(module, f'{kind}Storage')
  return Pid(('storage', kind, str(key), 'cuda:0', numel))


def tensor(place, shape, strides, offset=0, *late):
  hooks = Call(Name('collections', 'OrderedDict'))
  name = Name('torch._utils', '_rebuild_tensor_v2')
  return Call(name, (place, offset, shape, strides, False, hooks, *late))


def write(path, value, members=None, prefix='best', **kwargs):
  """Writes an archive; `value` may also be the pickle itself."""
  code = value if isinstance(value, bytes) else opcodes(value)
  with zipfile.ZipFile(path, 'w', **kwargs) as archive:
    archive.writestr(f'{prefix}/data.pkl', b'\x80\x02' + code + b'.')
    archive.writestr(f'{prefix}/version', '3\n')
    for name, data in (members or {}).items():
      archive.writestr(f'{prefix}/{name}', data)
  return path


def state_dict(state):
  """Returns ({name: tensor}, members of the archive) of float32 arrays."""
  members, tensors = {}, {}
  for key, (name, value) in enumerate(state.items()):
    value = np.asarray(value, '<f4', order='C')
    members[f'data/{key}'] = value.tobytes()
    strides = tuple(s // 4 for s in value.strides)
    tensors[name] = tensor(storage(key, numel=value.size), value.shape, strides)
  return tensors, members


def write_checkpoint(path, state, config, **rest):
  """Writes a checkpoint as the released program saves it.

  Args:
    path: Path of the file.
    state: {name: float32 array}.
    config: Plain values.
    **rest: Further entries of the dict.
  """
  tensors, members = state_dict(state)
  schedule = Call(
    Name('copyreg', '_reconstructor'),
    (
      Name('Opts.optimization', 'WarmupLinearSchedule'),
      Name('builtins', 'object'),
      None,
    ),
    state={'warmup': 0.01, 't_total': 4200.0},
  )
  value = {
    'config': config,
    'epoch': 3,
    'model_val': [1.0, 2.0, 3.0, 4.0, 10.0],
    'state_dict': tensors,
    'optimizer': {'state': {}, 'param_groups': [{'schedule': schedule}]},
    **rest,
  }
  return write(path, value, members)
