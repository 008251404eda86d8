"""Tests of the mesh; the suite runs on eight CPU devices."""

import jax
import numpy as np
import pytest

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError


def test_all_devices_by_default():
  assert jax.device_count() == 8
  assert meshes.make_mesh().shape == {'data': 8, 'corpus': 1}
  assert meshes.make_mesh(2).shape == {'data': 2, 'corpus': 1}
  assert meshes.make_mesh(8, 4).shape == {'data': 2, 'corpus': 4}


def test_more_devices_than_there_are():
  with pytest.raises(
    UserError,
    match=r'config.num_devices asks for 9 devices, but JAX sees 8 \(cpu\)',
  ):
    meshes.make_mesh(9)


def test_corpus_axis_that_does_not_divide_the_devices_is_refused():
  with pytest.raises(UserError, match=r'corpus_devices is 3.* 8 devices'):
    meshes.make_mesh(8, 3)


def test_a_size_that_does_not_divide():
  mesh = meshes.make_mesh(8)
  meshes.check_divisible(16, 'config.batch_size', mesh)
  with pytest.raises(
    UserError,
    match=r'config.batch_size is 12, which 8 devices cannot share evenly; '
    'choose a multiple of 8',
  ):
    meshes.check_divisible(12, 'config.batch_size', mesh)


def test_rows_are_split_and_come_back():
  mesh = meshes.make_mesh(8)
  arrays = {
    'x': np.arange(48, dtype=np.float32).reshape(16, 3),
    'mask': np.arange(8) < 5,
  }
  placed = meshes.shard_rows(arrays, mesh)
  assert set(placed) == {'x', 'mask'}
  for name, array in placed.items():
    np.testing.assert_array_equal(array, arrays[name])
    assert array.dtype == arrays[name].dtype
    assert len(array.sharding.device_set) == 8
  for shard in placed['x'].addressable_shards:
    assert shard.data.shape == (2, 3)
    np.testing.assert_array_equal(shard.data, arrays['x'][shard.index])


def test_replicas_are_whole():
  mesh = meshes.make_mesh(8)
  tree = {'a': np.arange(3.0), 'b': [np.float32(2)]}
  placed = meshes.replicate(tree, mesh)
  assert jax.tree.structure(placed) == jax.tree.structure(tree)
  assert len(placed['a'].addressable_shards) == 8
  for shard in placed['a'].addressable_shards:
    np.testing.assert_array_equal(shard.data, [0, 1, 2])


def test_a_product_over_split_rows_sees_the_whole_batch():
  mesh = meshes.make_mesh(8)
  x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
  split = meshes.shard_rows({'x': x}, mesh)['x']
  got = jax.jit(lambda x: x @ x.T)(split)
  np.testing.assert_allclose(got, x @ x.T, rtol=1e-4, atol=1e-5)
