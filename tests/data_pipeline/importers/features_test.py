"""Tests of reading features of every form."""

import os
import pickle

import h5py
import numpy as np
import pytest

from data_pipeline import limits, npz
from data_pipeline.errors import DataError
from data_pipeline.importers import layout
from data_pipeline.importers.features import Features
from dreamprvr_jax.errors import UserError

_GENERATOR = np.random.default_rng(0)
_ARRAYS = {
  'v': _GENERATOR.standard_normal((3, 5)).astype(np.float32),
  'w': _GENERATOR.standard_normal((1, 5)).astype(np.float16),
  'x': np.asfortranarray(_GENERATOR.standard_normal((4, 5))),
  'y': _GENERATOR.standard_normal((2, 5)).astype('>f4'),
}


def write(folder, form, arrays):
  """Writes arrays in one of the forms; returns the path."""
  if form == 'npz':
    np.savez(folder / 'all.npz', **arrays)
    return folder / 'all.npz'
  if form == 'compressed':
    np.savez_compressed(folder / 'all.npz', **arrays)
    return folder / 'all.npz'
  if form == 'hdf5':
    with h5py.File(folder / 'all.h5', 'w') as file:
      for name, array in arrays.items():
        file[name] = array
    return folder / 'all.h5'
  place = folder / 'all'
  place.mkdir()
  (place / 'README.txt').write_text('is passed over')
  for i, (name, array) in enumerate(arrays.items()):
    if i % 3 == 0:
      np.save(place / f'{name}.npy', array)
    elif i % 3 == 1:
      np.savez(place / f'{name}.npz', anything=array)
    else:
      np.savez(place / f'{name}.npz', features=array, pooled=np.zeros(3))
  return place


@pytest.mark.parametrize('form', ['folder', 'hdf5', 'npz'])
def test_ids_are_composed(tmp_path, form):
  """A name may be stored decomposed; its id is composed."""
  array = _ARRAYS['v']
  path = write(tmp_path, form, {'cafe\u0301': array, 'a': array})
  found = Features(path)
  assert found.ids == ['a', 'caf\u00e9']
  assert found.rows == {'a': 3, 'caf\u00e9': 3}
  assert not found.problems
  np.testing.assert_array_equal(found.read('caf\u00e9'), array)
  assert not found.check_values()
  assert all(file.is_file() for file in found.files())


@pytest.mark.parametrize('form', ['folder', 'hdf5'])
def test_names_that_are_no_text(tmp_path, form):
  array = _ARRAYS['v']
  path = write(tmp_path, form, {'a': array})
  if form == 'folder':
    np.save(path / 'caf\udce9.npy', array)
  else:
    with h5py.File(path, 'a') as file:
      file[b'caf\xe9'] = array
  found = Features(path)
  assert found.ids == ['a', 'caf\udce9']
  with pytest.raises(UserError, match='has a name that is not UTF-8 text'):
    found.read('caf\udce9')


@pytest.mark.parametrize('form', ['folder', 'hdf5', 'npz'])
def test_two_names_of_one_id_are_named(tmp_path, form):
  array = _ARRAYS['v']
  path = write(tmp_path, form, {'cafe\u0301': array, 'caf\u00e9': array})
  with pytest.raises(UserError) as caught:
    Features(path)
  assert r"'cafe\u0301'" in str(caught.value)
  assert r"'caf\xe9'" in str(caught.value)


@pytest.mark.parametrize('form', ['folder', 'hdf5', 'npz', 'compressed'])
def test_forms(tmp_path, form):
  found = Features(write(tmp_path, form, _ARRAYS))
  assert found.ids == list('vwxy')
  assert found.width == 5
  assert found.rows == {'v': 3, 'w': 1, 'x': 4, 'y': 2}
  assert not found.problems
  assert not found.check_values()
  for name, array in _ARRAYS.items():
    assert name in found
    np.testing.assert_array_equal(found.read(name), array)
  assert 'z' not in found
  assert all(path.is_file() for path in found.files())


def test_clip_words_of_qvhighlights(tmp_path):
  words = np.ones((4, 3), np.float32)
  np.savez(
    tmp_path / 'qid7.npz', pooler_output=words[0], last_hidden_state=words
  )
  np.testing.assert_array_equal(Features(tmp_path).read('qid7'), words)


@pytest.mark.parametrize('form', ['folder', 'hdf5', 'npz'])
def test_one_row(tmp_path, form):
  path = write(tmp_path, form, {'q': np.ones(5, np.float32)})
  assert Features(path).problems
  found = Features(path, flat=True)
  assert found.rows == {'q': 1}
  assert found.read('q').shape == (1, 5)


@pytest.mark.parametrize('form', ['folder', 'hdf5', 'npz'])
@pytest.mark.parametrize(
  ('array', 'sentence'),
  [
    (np.ones((3, 4), np.float32), 'has the width 4 where most have 5'),
    (np.ones((0, 5), np.float32), 'is empty'),
    (np.ones((3, 0), np.float32), 'is empty'),
    (np.ones((3, 5), np.int64), 'has int64'),
    (np.ones((3, 5), np.complex64), 'has complex64'),
    (np.ones((1, 3, 5), np.float32), 'has the shape (1, 3, 5)'),
    (np.float32(1), 'has the shape ()'),
  ],
)
def test_bad_shapes(tmp_path, form, array, sentence):
  found = Features(write(tmp_path, form, {**_ARRAYS, 'bad': array}))
  assert list(found.problems) == ['bad']
  assert sentence in found.problems['bad']
  assert 'bad' not in found.rows
  assert 'bad' in found
  with pytest.raises(DataError, match="'bad'"):
    found.read('bad')


@pytest.mark.parametrize('form', ['folder', 'hdf5', 'npz'])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 1e300])
def test_bad_values(tmp_path, form, value):
  array = np.ones((4, 5))
  array[2, 3] = value
  found = Features(write(tmp_path, form, {**_ARRAYS, 'bad': array}))
  assert not found.problems
  problems = found.check_values()
  assert list(problems) == ['bad']
  assert problems['bad'].startswith('has NaN or infinity in')
  with pytest.raises(DataError, match='rows, the first 2'):
    found.read('bad')


@pytest.mark.parametrize('form', ['folder', 'npz'])
def test_nothing_is_unpickled(tmp_path, form):
  class Trap:
    def __reduce__(self):
      return (pytest.fail, ('it was unpickled',))

  array = np.array([Trap()], object)
  found = Features(write(tmp_path, form, {'bad': array, **_ARRAYS}))
  assert 'has object' in found.problems['bad']
  with pytest.raises(DataError, match='has object'):
    found.read('bad')
  (tmp_path / 'raw').mkdir()
  (tmp_path / 'raw/bad.npy').write_bytes(pickle.dumps(array.shape))
  assert 'cannot be read' in Features(tmp_path / 'raw').problems['bad']


def test_truncated_files(tmp_path):
  place = write(tmp_path, 'folder', _ARRAYS)
  whole = (place / 'v.npy').read_bytes()
  (place / 'v.npy').write_bytes(whole[:-8])
  (place / 'w.npz').write_bytes((place / 'w.npz').read_bytes()[:-30])
  (place / 'x.npz').write_bytes(b'')
  (place / 'y.npy').write_bytes(whole[:20])
  found = Features(place)
  assert sorted(found.problems) == ['v', 'w', 'x', 'y']
  assert 'truncated' in found.problems['v']


def test_damaged_values_in_a_zip(tmp_path):
  path = write(tmp_path, 'compressed', {'v': np.ones((99, 99))})
  raw = bytearray(path.read_bytes())
  raw[len(raw) // 2] ^= 0xFF
  path.write_bytes(raw)
  found = Features(path)
  assert list(found.problems) + list(found.check_values()) == ['v']


def test_groups_are_no_arrays(tmp_path):
  with h5py.File(tmp_path / 'all.h5', 'w') as file:
    file['v/features'] = np.ones((3, 5))
  assert 'is a group' in Features(tmp_path / 'all.h5').problems['v']


def test_an_npz_of_several_arrays(tmp_path):
  np.savez(tmp_path / 'v.npz', a=np.ones((1, 2)), b=np.ones((1, 2)))
  assert 'it has the arrays a, b' in Features(tmp_path).problems['v']


@pytest.mark.parametrize(
  ('name', 'content', 'sentence'),
  [
    ('none', None, 'is missing'),
    ('x.pt', b'x', 'is of no known form'),
    ('x.npz', b'x', 'cannot be read'),
    ('x.h5', b'x' * 600, 'cannot be read'),
    ('.', None, 'has no features'),
  ],
)
def test_bad_sources(tmp_path, name, content, sentence):
  if content is not None:
    (tmp_path / name).write_bytes(content)
  with pytest.raises(DataError, match=sentence):
    Features(tmp_path / name)


def test_an_id_has_one_file(tmp_path):
  np.save(tmp_path / 'v.npy', np.ones((2, 3)))
  np.savez(tmp_path / 'v.npz', np.ones((2, 3)))
  with pytest.raises(DataError, match=r'v\.npy and v\.npz'):
    Features(tmp_path)


def test_values_are_not_read_at_first(tmp_path, monkeypatch):
  path = write(tmp_path, 'folder', _ARRAYS)
  monkeypatch.setattr(npz, '_values', pytest.fail)
  assert len(Features(path).rows) == 4


@pytest.mark.parametrize('form', ['compressed', 'hdf5', 'folder'])
def test_what_unpacks_too_far_is_named(tmp_path, monkeypatch, form):
  monkeypatch.setattr(limits, 'FREE_BYTES', 1000)
  zeros = np.zeros((9999, 5), np.float32)
  path = write(tmp_path, form, _ARRAYS)
  if form == 'compressed':
    np.savez_compressed(path, **_ARRAYS, bad=zeros)
  elif form == 'hdf5':
    with h5py.File(path, 'a') as file:
      file.create_dataset('bad', data=zeros, compression='gzip')
  else:
    np.savez_compressed(path / 'bad.npz', zeros)
  found = Features(path)
  assert list(found.problems) == ['bad']
  assert 'more than 64 times its size (the default)' in found.problems['bad']
  with pytest.raises(DataError, match='64 times'):
    found.read('bad')
  assert not found.check_values()
  raised = Features(path, limits=limits.Limits(2000, '--max_inflation'))
  assert not raised.problems
  assert not raised.read('bad').any()


def test_many_that_unpack_too_far_together(tmp_path, monkeypatch):
  monkeypatch.setattr(limits, 'FREE_BYTES', 1 << 20)
  zeros = np.zeros((10000, 5), np.float32)
  arrays = {f'bad{i}': zeros for i in range(9)}
  np.savez_compressed(tmp_path / 'all.npz', v=_ARRAYS['v'], **arrays)
  assert sorted(Features(tmp_path / 'all.npz').problems) == sorted(arrays)
  # A single array is not too large.
  np.savez_compressed(tmp_path / 'all.npz', v=_ARRAYS['v'], bad0=zeros)
  assert not Features(tmp_path / 'all.npz').problems


def test_a_file_that_is_a_hole(tmp_path):
  path = tmp_path / 'v.npy'
  with path.open('wb') as file:
    header = {'descr': '<f4', 'fortran_order': False, 'shape': (1 << 27, 1)}
    np.lib.format.write_array_header_1_0(file, header)
    file.truncate(file.tell() + (1 << 29))
  if path.stat().st_blocks * 512 > 1 << 20:
    pytest.skip('this disk has no holes')
  with pytest.raises(DataError, match=r'its arrays come to 512\.0 MiB'):
    Features(tmp_path)


def test_links_and_values_that_are_not_there(tmp_path):
  with h5py.File(tmp_path / 'all.h5', 'w') as file:
    for name, array in _ARRAYS.items():
      file[name] = array
    file['again'] = h5py.SoftLink('/v')
    file['link'] = h5py.ExternalLink('other.h5', 'x')
    file.create_dataset('claims', (10**9, 5), 'f4')
  found = Features(tmp_path / 'all.h5')
  assert list(found.problems) == ['claims', 'link']
  np.testing.assert_array_equal(found.read('again'), _ARRAYS['v'])


def test_what_is_no_file(tmp_path):
  place = write(tmp_path, 'folder', _ARRAYS)
  # Opening one would block for ever.
  os.mkfifo(place / 'pipe.npy')
  os.mkfifo(tmp_path / 'pipe.npz')
  os.mkfifo(tmp_path / 'pipe.h5')
  (place / 'folder.npz').mkdir()
  (place / 'nowhere.npy').symlink_to(tmp_path / 'none')
  found = Features(place)
  assert list(found.problems) == ['folder', 'nowhere', 'pipe']
  for name in ('pipe.npz', 'pipe.h5'):
    with pytest.raises(DataError, match='of no known form'):
      Features(tmp_path / name)


def test_names_that_are_no_text_are_told(tmp_path):
  with h5py.File(tmp_path / 'all.h5', 'w') as file:
    file['v'] = _ARRAYS['v']
    file.id.links.create_soft(b'\xff', b'/v')
  found = Features(tmp_path / 'all.h5')
  assert list(found.problems.values()) == [
    'has a name that is not UTF-8 text; rename it'
  ]


def test_mistakes_of_programs_are_no_damage(tmp_path, monkeypatch):
  path = write(tmp_path, 'npz', _ARRAYS)
  found = Features(path)

  def fail(*_):
    raise KeyError('a mistake')

  monkeypatch.setattr(layout, 'matrix_problem', fail)
  with pytest.raises(KeyError, match='a mistake'):
    found.check_values()
  monkeypatch.setattr(npz, '_parse', fail)
  with pytest.raises(KeyError, match='a mistake'):
    Features(path)


def test_no_memory_is_no_damage(tmp_path, monkeypatch):
  path = write(tmp_path, 'folder', _ARRAYS)
  found = Features(path)
  monkeypatch.setattr(limits, 'FREE_BYTES', 0)
  monkeypatch.setattr(limits, 'available_memory', lambda: 10)
  with pytest.raises(DataError, match='of memory where 10 bytes are free'):
    found.read('v')
