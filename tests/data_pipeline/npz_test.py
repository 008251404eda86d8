"""Tests of .npy and .npz files whose headers make false claims."""

import io
import zipfile

import numpy as np
import pytest

from data_pipeline import limits
from data_pipeline.errors import ArrayError, DataError
from data_pipeline.npz import Npz, npy_claim, read_npy


def raw_npy(shape, descr="'<f4'", order='False', values=b'', version=1):
  """Returns an .npy file with this text as its shape and type."""
  text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
  size = len(text).to_bytes(2 if version == 1 else 4, 'little')
  return b'\x93NUMPY' + bytes([version, 0]) + size + text.encode() + values


def problem(function, *arguments):
  with pytest.raises(ArrayError) as caught:
    function(*arguments)
  return str(caught.value)


@pytest.mark.parametrize('version', [1, 2, 3])
@pytest.mark.parametrize('order', ['False', 'True'])
def test_what_numpy_writes_and_others_do(tmp_path, version, order):
  values = np.arange(6, dtype='<f4')
  path = tmp_path / 'a.npy'
  path.write_bytes(
    raw_npy('(2L, 3L)', order=order, values=values.tobytes(), version=version)
  )
  assert npy_claim(path) == ((2, 3), np.dtype('<f4'), 24, 24)
  np.testing.assert_array_equal(
    read_npy(path), values.reshape(2, 3, order='F' if order == 'True' else 'C')
  )
  np.save(path, np.zeros((0, 3)))
  assert read_npy(path).shape == (0, 3)


@pytest.mark.parametrize(
  ('raw', 'sentence'),
  [
    (raw_npy('(1000000000, 512)'), 'needs 2,048,000,0'),
    (raw_npy('(-1, -4)', values=bytes(16)), 'claims the shape (-1, -4)'),
    (raw_npy(f'({2**40}, {2**40})'), 'no machine can hold'),
    (raw_npy('(0, 1' + '0' * 30 + ')'), 'no machine can hold'),
    (raw_npy('(True, 4)', values=bytes(16)), 'claims the shape (True, 4)'),
    (raw_npy('(1.0, 4)', values=bytes(16)), 'claims the shape (1.0, 4)'),
    (raw_npy('[1, 4]', values=bytes(16)), 'claims the shape [1, 4]'),
    (raw_npy(str((1,) * 40), values=bytes(4)), 'claims the shape (1, 1'),
    (raw_npy('(1, 4)', order='7', values=bytes(16)), 'claims the shape'),
    (raw_npy('(1, 4)', "[('a', '<f4')]"), "holds [('a', '<f4')]"),
    (raw_npy('(1, 4)', "'<f3'"), 'holds <f3, which numpy does not know'),
    (raw_npy('(1, 4)', "'f4,f4'"), 'holds f4,f4'),
    (raw_npy('(' * 300 + ')' * 300), 'its header is damaged'),
    (raw_npy('-' * 3900 + '1'), 'its header is damaged'),
    (raw_npy('{[]: 1}'), 'its header is damaged'),
    (raw_npy('(1, 4)', "'\0'"), 'its header is damaged'),
    (raw_npy('(1, 4)' + ' ' * 9000), 'its header claims 9,0'),
    (raw_npy('(1, 4)')[:40], 'ends within its header'),
    (raw_npy('(1, 4)')[:9], 'ends within its header'),
    (raw_npy('(1, 4)', version=9), 'of version 9'),
    (raw_npy('(1, 4)', values=bytes(15)), 'truncated'),
    (b'', 'not .npy data'),
  ],
)
def test_headers_that_claim_too_much(tmp_path, raw, sentence):
  path = tmp_path / 'a.npy'
  path.write_bytes(raw)
  assert sentence in problem(npy_claim, path)
  assert sentence in problem(read_npy, path)
  with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as file:
    file.writestr('a.npy', raw)
  with Npz(tmp_path / 'a.npz', 'the file') as file:
    # The zip file states the size, too.
    own = ('of content', 'by the zip file', sentence)
    assert any(part in problem(file.claim, 'a') for part in own)


def test_objects_are_not_unpickled(tmp_path):
  np.save(tmp_path / 'a.npy', np.array([{}], object))
  assert npy_claim(tmp_path / 'a.npy').dtype == object
  assert 'never unpickled' in problem(read_npy, tmp_path / 'a.npy')


def test_an_array_without_memory_is_not_read(tmp_path, monkeypatch):
  monkeypatch.setattr(limits, 'available_memory', lambda: 100 << 20)
  path = tmp_path / 'a.npy'
  with path.open('wb') as file:
    file.write(raw_npy('(10000000, 4)'))
    # The values are a hole, which takes no space on the disk.
    file.truncate(file.tell() + 160_000_000)
  assert npy_claim(path).unpacked == 160_000_000
  assert '457.8 MiB of memory where 100.0 MiB are' in problem(read_npy, path)


def npz_of(tmp_path, change=None, name='a', compression=zipfile.ZIP_STORED):
  """Returns an .npz of one array with changed bytes."""
  buffer = io.BytesIO()
  np.save(buffer, np.ones((3, 4), np.float32))
  path = tmp_path / 'all.npz'
  with zipfile.ZipFile(path, 'w', compression) as file:
    file.writestr(f'{name}.npy', buffer.getvalue())
  raw = bytearray(path.read_bytes())
  if change is not None:
    change(raw)
    path.write_bytes(raw)
  return path


def directory(raw):
  """Returns the offset of the directory entry."""
  return raw.rindex(b'PK\x01\x02')


def put(place, value, size=4):
  def change(raw):
    start = directory(raw) + place
    raw[start : start + size] = value.to_bytes(size, 'little')

  return change


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    (put(24, 3_000_000_000), 'bytes for 3,000,000,000 of content'),
    (put(20, 3_000_000_000), 'claims 3,000,000,000 bytes'),
    (put(24, 100), 'bytes for 100 of content'),
    (put(8, 1, 2), 'is encrypted'),
    (put(10, 14, 2), 'is packed by method 14'),
    (put(16, 7), 'cannot be read: Bad CRC-32'),
  ],
)
def test_zip_entries_that_lie(tmp_path, change, sentence):
  with Npz(npz_of(tmp_path, change), 'the file') as file:
    assert sentence in problem(file.read, 'a')


@pytest.mark.parametrize(
  ('size', 'sentence'),
  [(150, 'Bad CRC-32'), (4_000_000_000, 'by its own shape (3, 4)')],
)
def test_packed_entries_that_lie(tmp_path, size, sentence):
  path = npz_of(tmp_path, put(24, size), compression=zipfile.ZIP_DEFLATED)
  with Npz(path, 'the file') as file:
    assert sentence in problem(file.claim, 'a')
    assert sentence in problem(file.read, 'a')


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_names_that_come_twice(tmp_path):
  path = npz_of(tmp_path)
  with zipfile.ZipFile(path, 'a') as file:
    file.writestr('a.npy', b'')
    file.writestr('README.txt', b'is passed over')
  with Npz(path, 'the file') as file:
    assert file.ids == ['a']
    assert 'is in the file 2 times' in problem(file.claim, 'a')


def test_open_files_are_read(tmp_path):
  raw = npz_of(tmp_path, compression=zipfile.ZIP_DEFLATED).read_bytes()
  with Npz(io.BytesIO(raw), 'the file') as file:
    claim = file.claim('a')
    assert (claim.shape, claim.unpacked) == ((3, 4), 48)
    assert claim.packed < len(raw)
    np.testing.assert_array_equal(file.read('a'), np.ones((3, 4)))
  with pytest.raises(DataError, match=r'the file \(9 bytes\) cannot be read'):
    Npz(io.BytesIO(b'no archiv'), 'the file')
