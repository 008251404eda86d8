"""Reading word features of queries from users' files."""

import unicodedata
import zipfile

import h5py
import numpy as np
import pytest

from data_pipeline import limits
from dreamprvr_jax.cli.query_files import read_queries
from dreamprvr_jax.errors import UserError

_WORDS = np.ones((2, 4), np.float16)


def refused(path, sentence):
  with pytest.raises(UserError, match=sentence) as caught:
    read_queries(str(path), 4)
  assert path.name in str(caught.value)


def test_both_forms(tmp_path):
  arrays = {'b': _WORDS, 'a': _WORDS.astype(np.int32)}
  np.savez_compressed(tmp_path / 'q.npz', **arrays)
  with h5py.File(tmp_path / 'q.h5', 'w', track_order=True) as file:
    for name, array in arrays.items():
      file[name] = array
  for path in (tmp_path / 'q.npz', tmp_path / 'q.h5'):
    found = read_queries(str(path), 4)
    assert list(found) == ['b', 'a']
    assert all(x.dtype == np.float32 for x in found.values())
    np.testing.assert_array_equal(found['a'], np.ones((2, 4)))


def test_links_and_claims(tmp_path):
  path = tmp_path / 'q.h5'

  def written(**items):
    with h5py.File(path, 'w') as file:
      for name, item in items.items():
        file[name] = item
    return path

  refused(written(q=h5py.ExternalLink('x.h5', 'y')), 'a link to another file')
  refused(written(q=h5py.SoftLink('/q')), 'leads back to itself')
  with h5py.File(path, 'w') as file:
    file.create_dataset('q', (10**9, 4), 'f4')
  refused(path, "'q' claims 16,000,000,000 bytes of which 0 are stored")


def test_what_unpacks_too_far(tmp_path, monkeypatch):
  monkeypatch.setattr(limits, 'FREE_BYTES', 1000)
  np.savez_compressed(tmp_path / 'q.npz', q=np.zeros((9999, 4)))
  refused(tmp_path / 'q.npz', "'q' takes .* more than 64 times its size")


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_names(tmp_path):
  path = tmp_path / 'q.npz'
  apart = unicodedata.normalize('NFD', 'caf\xe9')
  np.savez(path, **{apart: _WORDS})
  assert list(read_queries(str(path), 4)) == ['caf\xe9']
  np.savez(path, **{apart: _WORDS, 'caf\xe9': _WORDS})
  refused(path, 'are the same id in composed form')
  np.savez(path, q=_WORDS)
  with zipfile.ZipFile(path, 'a') as file:
    file.writestr('q.npy', b'')
  refused(path, "'q' is in the file 2 times")
  with h5py.File(tmp_path / 'q.h5', 'w') as file:
    file['q'] = _WORDS
    file.id.links.create_soft(b'\xff', b'/q')
  refused(tmp_path / 'q.h5', 'half of a character')
