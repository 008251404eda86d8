"""Archives that declare more than they hold, and damaged archives."""

import argparse
import collections
import pathlib
import pickle
import random
import struct
import zipfile

import numpy as np
import pytest

from dreamprvr_jax.interop import inert_pickle, torch_archive
from dreamprvr_jax.interop.inert_values import MAX_DEPTH, Opaque
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

SIX = {'data/0': np.arange(6, dtype='<f4').tobytes()}
WHOLE = tensor(storage(0), (2, 3), (3, 1))


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'best.ckpt'


def change_directory(path, name, *, size=None, stored=None, flags=None):
  """Changes the entry of a member in the zip's directory."""
  content = bytearray(path.read_bytes())
  start = content.index(b'PK\x01\x02')
  while content[start + 46 : start + 46 + len(name)] != name.encode():
    start = content.index(b'PK\x01\x02', start + 4)
  for value, offset, form in (
    (flags, 8, '<H'),
    (stored, 20, '<I'),
    (size, 24, '<I'),
  ):
    if value is not None:
      struct.pack_into(form, content, start + offset, value)
  path.write_bytes(content)


@pytest.mark.parametrize('name', ['best/data/0', 'best/data.pkl'])
def test_a_member_that_declares_more_than_the_file_has(path, name):
  write(path, WHOLE, SIX)
  change_directory(path, name, size=2**31, stored=2**31)
  with pytest.raises(
    ArchiveError, match=r'declares 2,147,483,648 bytes, but the file has [\d,]+'
  ):
    read_archive(path)


def test_a_member_that_declares_more_than_is_stored(path):
  write(path, WHOLE, SIX)
  change_directory(path, 'best/data/0', size=2**31)
  with pytest.raises(ArchiveError, match='but the file has 24 for it'):
    read_archive(path)


def test_an_encrypted_member(path):
  write(path, WHOLE, SIX)
  change_directory(path, 'best/data/0', flags=1)
  with pytest.raises(ArchiveError, match='data/0 is encrypted'):
    read_archive(path)


def test_members_that_memory_has_no_room_for(path, monkeypatch):
  write(path, WHOLE, {'data/0': bytes(2**16)})
  monkeypatch.setattr(torch_archive, 'available_memory', lambda: 2**15)
  with pytest.raises(ArchiveError, match='larger than the free memory'):
    read_archive(path)


def test_a_view_that_declares_far_more_than_is_stored(path):
  write(path, tensor(storage(0), (2**11, 2**10), (0, 0)), SIX)
  with pytest.raises(ArchiveError, match='declares 2097152 elements; found 6'):
    read_archive(path)
  write(path, tensor(storage(0), (0, 2**60), (0, 0)), SIX)
  with pytest.raises(ArchiveError, match='4294967296 elements'):
    read_archive(path)


def test_a_pickle_without_measure(path, monkeypatch):
  monkeypatch.setattr(torch_archive, '_MAX_PICKLE', 16)
  write(path, ['x' * 30])
  with pytest.raises(ArchiveError, match=r'member data\.pkl has \d+ bytes'):
    read_archive(path)


@pytest.mark.parametrize(
  'code',
  [
    b'\x8d' + struct.pack('<Q', 2**62),  # The string,
    b'\x8e' + struct.pack('<Q', 2**62),  # the bytes,
    b'\x8b' + struct.pack('<i', 2**31 - 1),  # and the number are missing.
    b'\x82\x01',  # An object of the extension registry.
    b'N\x94h\x05',
    b'0',
    b'N(0)e',
    b'K\x01K\x02s',
    b'K\x01R',
  ],
)
def test_pickles_that_cannot_be_read(path, code):
  with pytest.raises(ArchiveError, match=r'data\.pkl is no readable pickle'):
    read_archive(write(path, code))


def test_bytes_of_one_text_are_made_once(path):
  """Otherwise a small file could take any amount of memory."""
  text = b'X' + struct.pack('<I', 9) + b'some text' + b'q\x01'
  first = opcodes(Name('_codecs', 'encode'))
  encoded = first + text + opcodes('latin1') + b'\x86R'
  again = first + b'h\x01' + opcodes('latin1') + b'\x86R'
  one, two = read_archive(write(path, b']' + encoded + b'a' + again + b'a'))
  assert one == b'some text'
  assert one is two


FROM_TYPE = opcodes(Name('torch._tensor', '_rebuild_from_type_v2'))


@pytest.mark.parametrize(
  'deep',
  [
    b']' * 5000 + b'a' * 4999,
    b')' + b'\x85' * 100_000,
    opcodes(Name('a', 'B')) * 3000 + b')' + b'\x85R' * 3000,
    (b'}' + opcodes('k')) * 3000 + b'N' + b's' * 3000,
    FROM_TYPE + (b'(' + FROM_TYPE + b'N') * 3000 + b')' + b't' * 3000 + b'R',
  ],
)
def test_deep_nesting_is_one_sentence_or_passed_over(path, deep):
  with pytest.raises(ArchiveError, match='nested too deeply'):
    read_archive(write(path, deep))
  code = b'}' + opcodes('a') + opcodes(1) + b's' + opcodes('b') + deep + b's'
  assert read_archive(write(path, code), lenient=True)['a'] == 1


def test_moderate_nesting_is_read(path):
  value = [7]
  for _ in range(MAX_DEPTH - 2):
    value = [value]
  found = read_archive(write(path, value))
  for _ in range(MAX_DEPTH - 1):
    (found,) = found
  assert found == 7


def test_parts_that_share_their_parts_take_no_time(path):
  """Each of sixty tuples has the previous one twice: 2**60 parts in full."""
  code = b')\x94' + b'2\x86\x94' * 60
  found = read_archive(write(path, b'}' + code + opcodes(1) + b's'))
  ((key, value),) = found.items()
  assert isinstance(key, Opaque)
  assert value == 1


def test_lenient_reading_says_what_is_wrong_with_a_value(path):
  value = {
    'good': WHOLE,
    'outside': tensor(storage(0), (7,), (1,)),
    'external': Pid(('module', 'x')),
    'array': Call(Name('numpy.core.multiarray', '_reconstruct'), (), state=3),
  }
  found = read_archive(write(path, value, SIX), lenient=True)
  np.testing.assert_array_equal(found['good'], [[0, 1, 2], [3, 4, 5]])
  assert 'needs 7 elements; found 6' in found['outside'].problem
  assert 'unknown kind of external' in found['external'].problem
  assert 'an array of the state 3' in found['array'].problem


def test_what_is_not_wanted_is_not_read(path):
  value = {'good': WHOLE, 'bad': tensor(storage(1), (7,), (1,))}
  found = read_archive(write(path, value, SIX), only=lambda keys: {'good'})
  assert found['good'].shape == (2, 3)
  assert found['bad'].problem


@pytest.mark.parametrize('place', ['load_records', 'Rebuilder'])
def test_a_mistake_of_ours_is_no_damage(path, monkeypatch, place):
  def mistaken(*args, **kwargs):
    raise TypeError('a mistake of ours')

  monkeypatch.setattr(torch_archive, place, mistaken)
  with pytest.raises(TypeError, match='a mistake of ours'):
    read_archive(write(path, [1]))


def test_a_mistake_inside_a_rule_surfaces(path, monkeypatch):
  monkeypatch.setattr(
    'dreamprvr_jax.interop.torch_tensors._widen', lambda *args: 1 / 0
  )
  with pytest.raises(ZeroDivisionError):
    read_archive(write(path, WHOLE, SIX))


MIXED = {
  'scalars': [np.float64(1.5), np.float32(2), np.int64(3), np.bool_(True)],
  'array': np.arange(6.0).reshape(2, 3),
  'texts': np.array(['ab', 'c']),
  'path': pathlib.PurePosixPath('a/b'),
  'options': argparse.Namespace(lr=0.1, extra=None),
  'ordered': collections.OrderedDict(a=1),
  'default': collections.defaultdict(list, {1: 2}),
  'deque': collections.deque([1, 2], 3),
  'sets': ({1}, frozenset([2])),
  'big': 2**70,
  'raw': bytearray(b'abc'),
  'text': 'größe',
}


@pytest.mark.parametrize('protocol', range(6))
def test_every_protocol_of_pickle(path, protocol):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('best/data.pkl', pickle.dumps(MIXED, protocol))
  found = read_archive(path)
  assert found['scalars'] == [1.5, 2, 3, True]
  np.testing.assert_array_equal(found['array'], MIXED['array'])
  np.testing.assert_array_equal(found['texts'], ['ab', 'c'])
  assert found['options'].state == {'lr': 0.1, 'extra': None}
  assert found['ordered'] == {'a': 1}
  assert found['default'] == {1: 2}
  assert found['deque'] == [1, 2]
  assert found['sets'] == ({1}, {2})
  assert found['big'] == 2**70
  assert found['raw'] == b'abc'
  assert found['text'] == 'größe'
  assert isinstance(found['path'], Opaque)


@pytest.mark.parametrize('seed', range(4))
def test_damaged_bytes_end_in_one_sentence(path, seed):
  """Any change in the pickle or the zip gives a value or a sentence."""
  rng = random.Random(seed)
  pickles = [pickle.dumps(MIXED, protocol) for protocol in range(6)]
  weights = opcodes({'w': WHOLE, 'k': Call(Name('a', 'B'), (1,), {'x': 1})})
  pickles += [b'\x80\x02' + weights + b'.'] * 6
  for _ in range(80):
    data = bytearray(rng.choice(pickles))
    for _ in range(rng.randrange(1, 5)):
      at = rng.randrange(len(data))
      kind = rng.randrange(3)
      if kind == 0:
        data[at] = rng.randrange(256)
      elif kind == 1:
        del data[at : at + rng.randrange(1, 6)]
      else:
        data[at:at] = bytes(rng.choices(b'(tRbsuae0122}])\x81\x93N', k=3))
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('best/data.pkl', bytes(data))
      archive.writestr('best/data/0', SIX['data/0'])
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([0, 0, 2])):
      content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)
    for lenient in (False, True):
      sentence = sentence_of(path, lenient)
      assert sentence.startswith(f'{path}: ')
      assert len(sentence) < 1000


def sentence_of(path, lenient):
  """Returns the message if reading a file fails; another error is a failure."""
  try:
    read_archive(path, lenient=lenient)
  except ArchiveError as error:
    return str(error)
  return f'{path}: no error'


def test_records_of_calls():
  found = inert_pickle.load_records(
    b'\x80\x02' + opcodes(Call(Name('a', 'b'), (1,))) + b'(K\x02tR.'
  )
  assert (found.module, found.name) == ('', 'call')
  assert found.args[0].module == 'a'
