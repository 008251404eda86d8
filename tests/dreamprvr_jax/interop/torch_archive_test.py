"""Tests of reading torch archives, with archives assembled by hand."""

import sys
import zipfile

import numpy as np
import pytest

from dreamprvr_jax.interop.inert_values import Opaque
from dreamprvr_jax.interop.torch_archive import ArchiveError, read_archive
from tests.helpers.torch_archives import (
  Call,
  Name,
  Pid,
  opcodes,
  storage,
  tensor,
  write,
)


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'best.ckpt'


SIX = {'data/0': np.arange(6, dtype='<f4').tobytes()}


def test_plain_containers(path):
  value = {
    'epoch': 7,
    'model_val': [1.5, -2, True, None, 2**70],
    'name': 'größe',
    'pair': (1, ('a',)),
    'raw': b'\xff\x00',
  }
  assert read_archive(write(path, value)) == value


def test_known_names_become_plain(path):
  items = (('b', 1), ('a', 2))
  value = {
    'ordered': Call(Name('collections', 'OrderedDict'), (), items=items),
    'default': Call(
      Name('collections', 'defaultdict'), (Name('builtins', 'list'),),
      items=items,
    ),
    'set': Call(Name('__builtin__', 'set'), ([1, 2],)),
    'deque': Call(Name('collections', 'deque'), ((), 3), entries=(1, 2)),
    'size': Call(Name('torch', 'Size'), ((2, 3),)),
    'device': Call(Name('torch', 'device'), ('cuda', 0)),
    'type': Name('torch', 'float32'),
  }  # fmt: skip
  result = read_archive(write(path, value))
  assert result == {
    'ordered': {'b': 1, 'a': 2},
    'default': {'b': 1, 'a': 2},
    'set': {1, 2},
    'deque': [1, 2],
    'size': (2, 3),
    'device': 'cuda:0',
    'type': 'torch.float32',
  }
  assert list(result['ordered']) == ['b', 'a']
  assert type(result['ordered']) is dict


def test_a_list_that_holds_itself(path):
  code = b']q\x00' + opcodes(1) + b'ah\x00a'
  result = read_archive(write(path, code))
  assert result[0] == 1
  assert result[1] is result


def test_state_dict_of_a_module(path):
  """Names have a prefix, and torch adds an attribute to the dict."""
  items = (('module.weight', tensor(storage(0), (2, 3), (3, 1))),)
  state = {'_metadata': Call(Name('collections', 'OrderedDict'))}
  value = Call(Name('collections', 'OrderedDict'), (), state, items)
  result = read_archive(write(path, value, SIX))
  assert list(result) == ['module.weight']
  np.testing.assert_array_equal(result['module.weight'], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
  ('kind', 'dtype'),
  [
    ('Double', 'f8'), ('Float', 'f4'), ('Half', 'f2'), ('Long', 'i8'),
    ('Int', 'i4'), ('Short', 'i2'), ('Char', 'i1'), ('Byte', 'u1'),
    ('Bool', '?'), ('ComplexFloat', 'c8'), ('ComplexDouble', 'c16'),
  ],
)  # fmt: skip
@pytest.mark.parametrize('order', ['little', 'big'])
def test_element_types(path, kind, dtype, order):
  expected = np.array([0, 1, 1, 0]).astype(dtype)
  stored = expected.astype(expected.dtype.newbyteorder(order[0].upper()))
  members = {'data/0': stored.tobytes(), 'byteorder': order}
  value = tensor(storage(0, kind, 4), (4,), (1,))
  result = read_archive(write(path, value, members))
  assert result.dtype == expected.dtype
  np.testing.assert_array_equal(result, expected)


def test_bfloat16_is_widened(path):
  numbers = np.array([0x3F80, 0xC000, 0x7F80], '<u2')  # 1, -2, infinity.
  value = tensor(storage(0, 'BFloat16', 3), (3,), (1,))
  result = read_archive(write(path, value, {'data/0': numbers.tobytes()}))
  assert result.dtype == np.float32
  np.testing.assert_array_equal(result, [1, -2, np.inf])


@pytest.mark.parametrize(
  ('name', 'dtype', 'raw', 'expected'),
  [
    ('uint16', np.uint16, [1, 2, 3, 4], [0x0201, 0x0403]),
    ('float8_e4m3fn', np.float32, [0x38, 0xC0], [1, -2]),
  ],
)
def test_untyped_storage_with_element_type(path, name, dtype, raw, expected):
  place = storage(0, 'Untyped', len(raw), 'torch.storage')
  hooks = Call(Name('collections', 'OrderedDict'))
  value = Call(
    Name('torch._utils', '_rebuild_tensor_v3'),
    (place, 0, (2,), (1,), False, hooks, Name('torch', name)),
  )
  result = read_archive(write(path, value, {'data/0': bytes(raw)}))
  assert result.dtype == dtype
  np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
  ('shape', 'strides', 'offset', 'expected'),
  [
    ((3, 2), (1, 3), 0, [[0, 3], [1, 4], [2, 5]]),
    ((2, 2), (3, 2), 1, [[1, 3], [4, 6]]),
    ((), (), 4, 4),
    ((2, 3), (0, 1), 3, [[3, 4, 5], [3, 4, 5]]),
    ((0, 4), (4, 1), 0, np.zeros((0, 4))),
  ],
)
def test_views(path, shape, strides, offset, expected):
  members = {'data/0': np.arange(7, dtype='<f4').tobytes()}
  value = tensor(storage(0, numel=7), shape, strides, offset)
  result = read_archive(write(path, value, members))
  assert result.shape == shape
  np.testing.assert_array_equal(result, expected)


def test_shared_storage_stays_shared_and_read_only(path):
  row = tensor(storage(0), (3,), (1,), 3)
  parameter = Name('torch._utils', '_rebuild_parameter')
  whole = Call(parameter, (tensor(storage(0), (2, 3), (3, 1)), True, {}))
  result = read_archive(write(path, [row, whole], SIX))
  assert np.shares_memory(*result)
  assert not result[0].flags.writeable


def test_tensor_with_attributes(path):
  rebuild = Name('torch._utils', '_rebuild_tensor_v2')
  value = Call(
    Name('torch._tensor', '_rebuild_from_type_v2'),
    (rebuild, Name('torch', 'Tensor'), (storage(0), 0, (2,), (1,)), {'a': 1}),
  )
  np.testing.assert_array_equal(read_archive(write(path, value, SIX)), [0, 1])


def test_lazy_conjugate(path):
  members = {'data/0': np.array([1 + 2j], '<c8').tobytes()}
  place = storage(0, 'ComplexFloat', 1)
  value = tensor(place, (1,), (1,), 0, {'conj': True})
  assert read_archive(write(path, value, members)) == [1 - 2j]
  # It is conjugated once for all views of the storage.
  again = tensor(place, (1, 1), (1, 1), 0, {'conj': True})
  assert np.shares_memory(*read_archive(write(path, [value, again], members)))


def test_numpy_values(path):
  dtype = Call(
    Name('numpy', 'dtype'),
    ('f4', False, True),
    (3, '>', None, None, None, -1, -1, 0),
  )
  number = Call(
    Name('numpy._core.multiarray', 'scalar'), (dtype, b'\x3f\xc0\x00\x00')
  )
  array = Call(
    Name('numpy.core.multiarray', '_reconstruct'),
    (Name('numpy', 'ndarray'), (0,), b'b'),
    (1, (1, 2), dtype, False, b'\x3f\xc0\x00\x00' * 2),
  )
  number, array = read_archive(write(path, [number, array]))
  assert number == 1.5
  assert type(number) is float
  np.testing.assert_array_equal(array, [[1.5, 1.5]])


def test_schedule_object_is_opaque(path):
  name = Name('Opts.optimization', 'WarmupLinearSchedule')
  code = opcodes(name) + b')\x81' + opcodes({'warmup': 0.01}) + b'b'
  result = read_archive(write(path, code))
  assert isinstance(result, Opaque)
  assert result.module == 'Opts.optimization'
  assert result.name == 'WarmupLinearSchedule'
  assert result.args == ()
  assert result.state == {'warmup': 0.01}
  assert 'Opts' not in sys.modules


def test_dict_subclass_shows_its_items(path):
  code = opcodes(Name('easydict', 'EasyDict')) + b')\x81('
  code += opcodes('hidden') + opcodes(384) + opcodes('drop') + opcodes(0.1)
  code += b'u' + opcodes({'hidden': 384, 'drop': 0.1}) + b'b'
  result = read_archive(write(path, code))
  assert result.items == result.state == {'hidden': 384, 'drop': 0.1}


def test_list_and_set_subclasses_show_their_entries(path):
  code = opcodes(Name('a', 'B')) + b')R(' + opcodes(1) + opcodes(2) + b'e'
  assert read_archive(write(path, code)).entries == [1, 2]
  code = opcodes(Name('a', 'B')) + b')R(' + opcodes(3) + b'\x90'
  assert read_archive(write(path, code)).entries == [3]


def test_tensor_as_key_is_wrapped(path):
  key = tensor(storage(0), (2,), (1,))
  code = b'}' + opcodes(key) + opcodes('step') + b's'
  ((wrapped, value),) = read_archive(write(path, code, SIX)).items()
  np.testing.assert_array_equal(wrapped.args[0], [0, 1])
  assert value == 'step'


@pytest.mark.parametrize('module', ['os', 'posix', 'subprocess'])
def test_calls_are_not_made(path, tmp_path, module):
  target = tmp_path / 'ran'
  value = {'a': Call(Name(module, 'system'), (f'touch {target}',))}
  result = read_archive(write(path, value))['a']
  assert (result.module, result.name) == (module, 'system')
  assert result.args == (f'touch {target}',)
  assert not target.exists()


def test_other_ways_of_calling(path, tmp_path):
  target = tmp_path / 'ran'
  command = opcodes(f'touch {target}')
  name = opcodes(Name('os', 'system'))
  inst = b'(' + command + b'ios\nsystem\n'
  obj = b'(' + name + command + b'o'
  newobj = name + b'(' + command + b't\x81'
  for code in (inst, obj, newobj):
    assert read_archive(write(path, code)).name == 'system'
  stack_global = opcodes('os') + opcodes('system') + b'\x93'
  assert read_archive(write(path, stack_global)).args is None
  assert not target.exists()


def test_no_module_is_imported(path):
  assert 'antigravity' not in sys.modules
  value = [Name('antigravity', 'x'), Call(Name('antigravity', 'y'))]
  read_archive(write(path, value))
  assert 'antigravity' not in sys.modules


def test_bytes_of_a_length_stay_opaque(path):
  """A call of `bytes` would allocate a petabyte of zeros."""
  value = Call(Name('builtins', 'bytes'), (2**50,))
  assert isinstance(read_archive(write(path, value)), Opaque)


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (tensor(storage(0), (7,), (1,)), 'needs 7 elements; found 6'),
    (tensor(storage(0), (2, 3), (4, 1)), 'needs 7 elements; found 6'),
    (tensor(storage(0), (1,), (1,), 6), 'needs 7 elements; found 6'),
    (tensor(storage(0), (), (), 6), 'needs 7 elements; found 6'),
    (tensor(storage(0), (2,), (-1,), 3), 'none of them negative'),
    (tensor(storage(0), (-2,), (1,)), 'none of them negative'),
    (tensor(storage(0), (2,), (1,), -1), 'none of them negative'),
    (tensor(storage(0), ('2',), (1,)), 'expected integers'),
    (tensor(storage(0), (2, 2), (1,)), 'one stride an axis'),
    (tensor(storage(0), (1,) * 33, (1,) * 33), '32 axes'),
    (tensor(storage(0), (2**40,), (0,)), 'at most 4294967296 elements'),
    (tensor(storage(0, numel=7), (1,), (1,)), '24 bytes; expected 28'),
    (tensor(storage(0, numel=-1), (1,), (1,)), '24 bytes; expected -4'),
    (tensor(storage(1), (1,), (1,)), 'expected a member data/1; found none'),
    (tensor(storage(0, 'QInt8'), (1,), (1,)), 'type QInt8Storage'),
    (tensor({}, (1,), (1,)), 'a tensor of dict'),
    (tensor(storage(0, 'Bool'), (1,), (1,), 0, {'neg': True}), 'neg do not'),
    (tensor(storage(0), 3, 4), 'cannot rebuild torch._utils'),
    (Pid(('module', 'x')), 'unknown kind of external object'),
    (opcodes(storage(0)) + b'}b', 'a storage has no state'),
    (b'Nr\xff\xff\xff\x7f', 'memo index 2147483647'),
    (b'(1', 'data.pkl is no readable pickle'),
    (b'cos', 'data.pkl is no readable pickle'),
    (opcodes(Name('a', 'B')) + b'}b', 'data.pkl is no readable pickle'),
    (b']' * 5000 + b'a' * 4999, 'nested too deeply'),
  ],
)
def test_faulty_contents(path, value, text):
  with pytest.raises(ArchiveError, match=text) as caught:
    read_archive(write(path, value, SIX))
  assert str(caught.value).startswith(f'{path}: ')


@pytest.mark.parametrize(
  ('content', 'text'),
  [
    (b'', 'the file is empty'),
    (b'\x89HDF\r\n', 'not a zip archive'),
    (b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.', 'before torch 1.6'),
    (b'\x80\x04N.', 'a bare pickle'),
    (b'x'.ljust(257, b'\0') + b'ustar\0', 'a tar file'),
  ],
)
def test_other_formats(path, content, text):
  path.write_bytes(content)
  with pytest.raises(ArchiveError, match=text):
    read_archive(path)


def test_truncated_archive(path):
  content = write(path, [1], SIX).read_bytes()
  path.write_bytes(content[: len(content) // 2])
  with pytest.raises(ArchiveError, match='truncated or damaged'):
    read_archive(path)


def test_damaged_member(path):
  value = tensor(storage(0), (6,), (1,))
  content = write(path, value, SIX).read_bytes()
  path.write_bytes(content.replace(SIX['data/0'], SIX['data/0'][::-1]))
  with pytest.raises(ArchiveError, match='member data/0 is damaged'):
    read_archive(path)


def test_archives_that_are_none_of_torch(path):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a.npy', 'x')
  with pytest.raises(ArchiveError, match=r'one member data\.pkl; found a\.npy'):
    read_archive(path)
  write(path, [1], {'constants.pkl': b''})
  with pytest.raises(ArchiveError, match='TorchScript'):
    read_archive(path)
  write(path, [1], {'more/data.pkl': b''})
  with pytest.raises(ArchiveError, match=r'found best/data\.pkl, best/more'):
    read_archive(path)
  write(path, [1], {'byteorder': 'middle'})
  with pytest.raises(ArchiveError, match='expected little or big'):
    read_archive(path)
  write(path, [1], compression=zipfile.ZIP_DEFLATED)
  with pytest.raises(ArchiveError, match='is compressed'):
    read_archive(path)


def test_missing_file(path):
  with pytest.raises(FileNotFoundError):
    read_archive(path)
