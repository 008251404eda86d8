"""Tests of HDF5 files whose headers make false claims."""

import pickle
import unicodedata
import zlib

import h5py
import numpy as np
import pytest

from data_pipeline import hdf5_claims, limits
from data_pipeline.errors import ArrayError, DataError
from data_pipeline.hdf5 import Hdf5Store
from data_pipeline.hdf5_file import Hdf5Arrays, Hdf5File

_ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def place(tmp_path):
  """A folder with another file, whose values must not leak."""
  with h5py.File(tmp_path / 'other.h5', 'w') as file:
    file['secret'] = _ROWS
  (tmp_path / 'secret.bin').write_bytes(_ROWS.tobytes())
  return tmp_path


def _never_written(file, place):
  file.create_dataset('v', (10**9, 4), 'f4')


def _no_chunk(file, place):
  file.create_dataset('v', (10**9, 4), 'f4', chunks=(10**4, 4))


def _some_chunks(file, place):
  data = file.create_dataset(
    'v', (100, 4), 'f4', chunks=(10, 4), compression='gzip'
  )
  data[:10] = 1


def _virtual(file, place):
  layout = h5py.VirtualLayout((3, 4), 'f4')
  layout[:] = h5py.VirtualSource(place / 'other.h5', 'secret', (3, 4))
  file.create_virtual_dataset('v', layout)


def _virtual_without_source(file, place):
  layout = h5py.VirtualLayout((3, 4), 'f4')
  layout[:] = h5py.VirtualSource(place / 'none.h5', 'secret', (3, 4))
  file.create_virtual_dataset('v', layout)


def _raw(file, place):
  external = [(str(place / 'secret.bin'), 0, 48)]
  file.create_dataset('v', (3, 4), 'f4', external=external)


def _external(file, place):
  file['v'] = h5py.ExternalLink(place / 'other.h5', 'secret')


def _external_group(file, place):
  file['folder'] = h5py.ExternalLink(place / 'other.h5', '/')
  file['v'] = h5py.SoftLink('/folder/secret')


def _loop(file, place):
  file['v'] = h5py.SoftLink('/w')
  file['w'] = h5py.SoftLink('v')


def _own_loop(file, place):
  file['v'] = h5py.SoftLink('v')


def _nowhere(file, place):
  file['v'] = h5py.SoftLink('/none')


def _group(file, place):
  file['v/frames'] = _ROWS


def _null(file, place):
  file['v'] = h5py.Empty('f4')


def _chunk_that_grows(file, place):
  data = file.create_dataset(
    'v', (1 << 20, 4), 'f4', chunks=(1 << 20, 4), compression='gzip'
  )
  data.id.write_direct_chunk((0, 0), zlib.compress(bytes(17 << 20), 1))


def _more_than_it_claims(file, place):
  data = file.create_dataset(
    'v', (3, 4), 'f4', chunks=(3, 4), compression='gzip'
  )
  data.id.write_direct_chunk((0, 0), zlib.compress(bytes(8 << 20)))


_BAD = {
  _never_written: 'claims 16,000,000,000 bytes of which 0 are stored',
  _no_chunk: 'claims 100,000 chunks of which 0 are stored',
  _some_chunks: 'claims 10 chunks of which 1 are stored',
  _virtual: 'is a virtual dataset',
  _virtual_without_source: 'is a virtual dataset',
  _raw: 'keeps its values in another file (',
  _external: 'is a link to another file (',
  _external_group: 'is a link to another file (',
  _loop: 'leads back to itself',
  _own_loop: 'leads back to itself',
  _nowhere: 'is a link to nothing',
  _group: 'is a group',
  _null: 'its dataset is null',
  _more_than_it_claims: 'for the shape (3, 4) of float32',
}


@pytest.mark.parametrize('spoil', list(_BAD), ids=lambda f: f.__name__[1:])
def test_what_is_not_in_the_file_is_refused(place, spoil):
  with h5py.File(place / 'a.h5', 'w') as file:
    spoil(file, place)
    file['good'] = _ROWS
  with Hdf5Arrays(place / 'a.h5') as store:
    assert {'v', 'good'} <= set(store.ids)
    with pytest.raises(ArrayError) as caught:
      store.claim('v')
    assert _BAD[spoil] in str(caught.value)
    assert store.claim('good').unpacked == 48
    np.testing.assert_array_equal(store.read('good'), _ROWS)


def test_a_chunk_that_unpacks_too_far(place, monkeypatch):
  monkeypatch.setattr(hdf5_claims, '_PROBED', 1000)
  with h5py.File(place / 'a.h5', 'w') as file:
    _chunk_that_grows(file, place)
    file.create_dataset('w', data=np.zeros((9999, 4), 'f4'), compression=9)
  with Hdf5Arrays(place / 'a.h5') as store:
    assert store.claim('v').unpacked == 16 << 20
    with pytest.raises(ArrayError, match='unpacks to more than the 16,777,216'):
      store.read('v')
    store.claim('w')
    assert not store.read('w').any()


def _plain(file):
  file['v'] = _ROWS


def _big_endian(file):
  file['v'] = _ROWS.astype('>f4')


def _chunked(file):
  file.create_dataset('v', data=_ROWS, chunks=(2, 3))


def _packed(file):
  file.create_dataset(
    'v', data=_ROWS, compression='gzip', shuffle=True, fletcher32=True
  )


def _lzf(file):
  file.create_dataset('v', data=_ROWS, compression='lzf')


def _soft(file):
  file['deep/er/w'] = _ROWS
  file['deep/x'] = h5py.SoftLink('er/w')
  file['v'] = h5py.SoftLink('/deep/x')


def _hard(file):
  file['w'] = _ROWS
  file['v'] = file['w']


def _compact(file):
  plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
  plan.set_layout(h5py.h5d.COMPACT)
  space = h5py.h5s.create_simple((3, 4))
  h5py.h5d.create(file.id, b'v', h5py.h5t.IEEE_F32LE, space, plan)
  file['v'][...] = _ROWS


@pytest.mark.parametrize(
  'write',
  [_plain, _big_endian, _chunked, _packed, _lzf, _soft, _hard, _compact],
  ids=lambda f: f.__name__[1:],
)
def test_own_values_are_read(tmp_path, write):
  with h5py.File(tmp_path / 'a.h5', 'w') as file:
    write(file)
  opened = Hdf5File(tmp_path / 'a.h5')
  found = opened.find('v')
  np.testing.assert_array_equal(opened.read(found), _ROWS)
  np.testing.assert_array_equal(opened.read(found, max_rows=2), _ROWS[:2])
  again = pickle.loads(pickle.dumps(opened))
  np.testing.assert_array_equal(again.read(found), _ROWS)
  assert opened.find('none') is None
  assert opened.find('v/none') is None


def test_accents_in_either_form(tmp_path):
  with h5py.File(tmp_path / 'a.h5', 'w') as file:
    file[unicodedata.normalize('NFD', 'caf\xe9')] = _ROWS
  store = Hdf5Store(tmp_path / 'a.h5', ['caf\xe9'])
  np.testing.assert_array_equal(store.read('caf\xe9'), _ROWS)


def test_a_store_names_what_it_refuses(place):
  with h5py.File(place / 'a.h5', 'w') as file:
    _external(file, place)
    file.create_dataset(
      'zeros', (1 << 27, 1), 'f4', chunks=(1 << 27, 1), compression='gzip'
    ).id.write_direct_chunk((0, 0), zlib.compress(bytes(1000)))
    file['good'] = _ROWS
  store = Hdf5Store(place / 'a.h5', ['v', 'zeros', 'good', 'none'])
  assert 'none' not in store
  assert 'is a link to another file' in store.problem('v')
  assert 'unpacks to 512.0 MiB, more than 64 times' in store.problem('zeros')
  assert store.problem('good') is None
  assert store.shape('good') == (3, 4)


def test_one_dataset_of_many_names(tmp_path, monkeypatch):
  monkeypatch.setattr(limits, 'FREE_BYTES', 1 << 20)
  rows = np.ones((1 << 16, 4), np.float32)
  with h5py.File(tmp_path / 'a.h5', 'w') as file:
    file['v0'] = rows
    for i in range(1, 70):
      file[f'v{i}'] = file['v0']
  names = [f'v{i}' for i in range(70)]
  assert Hdf5Store(tmp_path / 'a.h5', names[:60]).shape('v1') == rows.shape
  with pytest.raises(DataError, match=r'its arrays come to 70\.0 MiB'):
    Hdf5Store(tmp_path / 'a.h5', names)


def test_a_matrix_without_memory_is_named(tmp_path, monkeypatch):
  from data_pipeline import hdf5

  with h5py.File(tmp_path / 'a.h5', 'w') as file:
    file['v'] = _ROWS
  monkeypatch.setattr(hdf5, 'available_memory', lambda: 100)
  store = Hdf5Store(tmp_path / 'a.h5', ['v'])
  assert 'of memory where 100 bytes are free' in store.problem('v')


@pytest.mark.parametrize('chunks', [None, (1, 4)])
@pytest.mark.parametrize('is_pickled', [False, True])
def test_a_file_that_is_written_again_is_not_read(tmp_path, chunks, is_pickled):
  """The values of the new file are at other offsets."""
  path = tmp_path / 'a.h5'
  with h5py.File(path, 'w') as file:
    for name in ('v1', 'v2'):
      file.create_dataset(name, data=_ROWS, chunks=chunks)
  store = Hdf5Store(path, ['v1', 'v2'])
  if is_pickled:
    store = pickle.loads(pickle.dumps(store))
  elif chunks is None:
    # The same holds for a file that is already open.
    np.testing.assert_array_equal(store.read('v1'), _ROWS)
  with h5py.File(path, 'w') as file:
    for name in ('u', 'v1', 'v2'):
      file.create_dataset(name, data=_ROWS + 100, chunks=chunks)
  with pytest.raises(DataError, match=r'a\.h5 was written again after'):
    store.read('v1')
