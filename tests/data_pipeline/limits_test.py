"""Tests of the limits on unpacking files."""

import os
import pathlib
import types

import numpy as np
import pytest

from data_pipeline import limits
from data_pipeline.errors import DataError
from data_pipeline.limits import Claim, Limits, memory_problem

_GIB = 1 << 30


def claim(unpacked, packed):
  return Claim((unpacked // 4, 1), np.dtype('<f4'), unpacked, packed)


def excess(claims, size, most=64.0):
  found = {str(i): claim(*sizes) for i, sizes in enumerate(claims)}
  return Limits(most, '--most').excess(found, size, 'FILE')


def test_small_arrays_may_be_all_zeros():
  assert not excess([(200 << 20, 200_000)], 200_000)
  assert not excess([(1 << 20, 100)] * 50, 10_000)


def test_padded_features_of_any_size_pass():
  assert not excess([(40 * _GIB, _GIB)], _GIB)
  # One array is nothing but padding.
  assert not excess([(_GIB, _GIB // 10)] * 9 + [(200 << 20, 9_000)], _GIB)


def test_a_large_one_is_named():
  found = excess([(3 * _GIB, 3 << 20), (1000, 1000)], _GIB)
  assert list(found) == ['0']
  assert found['0'].startswith('takes 3.0 MiB and unpacks to 3.0 GiB, more')
  assert '64 times its size (--most)' in found['0']
  assert not excess([(3 * _GIB, 3 << 20)], 3 << 20, most=2000)


def test_many_small_ones_are_named_together():
  sizes = [(200 << 20, 200 << 10)] * 12 + [(1000, 1000)]
  found = excess(sizes, 12 * (200 << 10) + 1000)
  assert list(found) == [str(i) for i in range(12)]


def test_many_names_for_the_same_bytes():
  with pytest.raises(DataError, match=r'FILE takes 10.0 MiB of .* come to 1.0'):
    excess([(10 << 20, 10 << 20)] * 105, 10 << 20)


@pytest.mark.parametrize('most', [0, -1, 0.5, float('nan')])
def test_bad_limits(most):
  with pytest.raises(DataError, match=r'--most is .*; give a number from 1'):
    Limits(most, '--most')


def test_memory():
  half = claim(_GIB // 2, 1)
  assert not memory_problem(half, 2 * _GIB)
  assert not memory_problem(half, None)
  assert 'takes 1.5 GiB of memory where 1.0 GiB are free' in (
    memory_problem(half, _GIB)
  )


def test_fewer_blocks_count_only_with_holes(tmp_path, monkeypatch):
  whole, sparse = tmp_path / 'whole', tmp_path / 'sparse'
  whole.write_bytes(b'x' * 2**20)
  sparse.touch()
  os.truncate(sparse, 2**30)
  with sparse.open('r+b') as file:
    file.write(b'x' * 2**16)
  assert limits.disk_size(sparse) < 2**20
  stat = pathlib.Path.stat

  def early(path):
    """Returns the sizes before the file is written to the disk."""
    found = stat(path)
    return types.SimpleNamespace(st_size=found.st_size, st_blocks=1)

  monkeypatch.setattr(pathlib.Path, 'stat', early)
  assert limits.disk_size(whole) == 2**20
  assert limits.disk_size(sparse) == 512
