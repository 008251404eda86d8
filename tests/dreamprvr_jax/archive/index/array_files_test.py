"""Rows of arrays in files."""

import contextlib

import numpy as np
import pytest

from dreamprvr_jax.archive.index import array_files, checksums
from dreamprvr_jax.archive.index.array_files import ArrayFile, Rows


@pytest.mark.parametrize('dtype', ['float16', 'int8', 'bool', 'float64'])
@pytest.mark.parametrize('shape', [(50,), (50, 3), (50, 0), (50, 2, 700)])
@pytest.mark.parametrize('gap', [0, 100, 10**6])
def test_rows_are_those_of_the_array(dtype, shape, gap, monkeypatch, tmp_path):
  monkeypatch.setattr(array_files, '_GAP', gap)
  rng = np.random.default_rng(0)
  array = rng.integers(0, 2, shape).astype(dtype)
  path = tmp_path / 'x.npy'
  with contextlib.closing(ArrayFile(path, shape[1:], dtype)) as file:
    file.write(array[:20])
    file.cut(20)
    file.write(array[:3])
    file.cut(20)
    file.write(array[20:])
    known = file.finish()
  assert known == checksums.of_bytes(path.read_bytes())
  found = Rows(path)
  assert found.shape == shape
  assert found.dtype == array.dtype
  np.testing.assert_array_equal(found.read(7, 31), array[7:31])
  np.testing.assert_array_equal(np.load(path), array)
  for rows in (
    [],
    [3],
    [5, 6, 7, 8],
    [8, 7, 6],
    [4, 4, 5, 5],
    [0, 1, 40, 41, 2],
    rng.integers(0, 50, 80),
  ):
    rows = np.asarray(rows, np.int64)
    taken = np.empty((len(rows), *shape[1:]), dtype)
    found.take(rows, taken)
    np.testing.assert_array_equal(taken, array[rows])


def test_booleans_are_0_or_1(tmp_path):
  path = tmp_path / 'x.npy'
  with contextlib.closing(ArrayFile(path, (), bool)) as file:
    file.write(np.array([0, 1, 2, 255], np.uint8).view(bool))
    file.finish()
  found = Rows(path).read(0, 4)
  assert found.tobytes() == bytes([0, 1, 1, 1])


def test_numpy_writes_the_same(tmp_path):
  for shape in ((3,), (3, 4), (0, 2)):
    np.save(tmp_path / 'x.npy', np.ones(shape, np.float32))
    assert Rows(tmp_path / 'x.npy').read(0, shape[0]).shape == shape
