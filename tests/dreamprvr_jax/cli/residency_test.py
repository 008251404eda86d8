"""The choice of a run's pipeline, by memory and platform."""

import importlib
import logging
import types

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline.options import DataOptions
from dreamprvr_jax.cli import residency
from dreamprvr_jax.devices import meshes
from dreamprvr_jax.errors import UserError

GIB = 2**30


def split(name, gib):
  """Returns a split whose features take `gib` GiB in float32."""
  width = 1024
  rows = int(gib * GIB) // (4 * width)
  return types.SimpleNamespace(
    name=name,
    video_ids=['v'],
    stored_frames=np.array([128]),
    num_words=np.array([rows - 128 - 32]),
    visual_width=width,
    text_width=width,
    options=DataOptions(),
  )


TRAIN, VAL = split('train', 6), split('val', 2)


@pytest.fixture
def settle(monkeypatch, caplog):
  """Returns (pipeline, log) for the GiB that are free on a platform."""

  def settle(*splits, platform='gpu', device=100.0, host=100.0, **data):
    config = importlib.import_module('configs.tvr').get_config()
    config.data.update(data)
    monkeypatch.setattr(residency, 'free_memory', lambda mesh: device * GIB)
    available = None if host is None else int(host * GIB)
    monkeypatch.setattr(residency, 'available_memory', lambda: available)
    mesh = types.SimpleNamespace(
      devices=np.array([types.SimpleNamespace(platform=platform)])
    )
    caplog.clear()
    with caplog.at_level(logging.INFO, residency.__name__):
      settled = residency.with_pipeline(config, splits or (TRAIN, VAL), mesh)
    assert config.data.pipeline == data.get('pipeline', 'auto')
    return settled.data.pipeline, caplog.text

  return settle


def test_accelerator_with_room(settle):
  pipeline, log = settle(device=16.1)
  assert pipeline == 'device'
  assert "'device': 8.00 GiB of at most 8.05 on the device" in log
  assert settle(device=15.9)[0] == 'resident'
  assert settle(device=15.9, device_share=0.6)[0] == 'device'
  assert settle(device=8.1, device_dtype='bfloat16')[0] == 'device'


def test_the_same_split_counts_once(settle):
  assert settle(TRAIN, VAL, VAL, device=16.1)[0] == 'device'
  assert settle(TRAIN, VAL, split('test', 1), device=16.1)[0] == 'resident'


def test_accelerator_without_room(settle):
  pipeline, log = settle(device=10, host=9)
  assert pipeline == 'resident'
  assert 'not 8.00 GiB of at most 5.00 on the device; 8.00 GiB of 9.0' in log
  pipeline, log = settle(device=10, host=7)
  assert pipeline == 'streaming'
  assert 'not 8.00 GiB of 7.0 free in host memory' in log


def test_cpu_leaves_features_in_host_memory(settle):
  assert settle(platform='cpu')[0] == 'resident'
  assert settle(platform='cpu', host=None)[0] == 'resident'
  assert settle(platform='cpu', host=7)[0] == 'streaming'


@pytest.mark.parametrize('pipeline', ['resident', 'streaming'])
def test_what_is_asked_for_is_taken(settle, pipeline):
  assert settle(pipeline=pipeline, device=0, host=0) == (pipeline, '')


def test_device_that_is_asked_for_has_to_fit(settle):
  assert settle(pipeline='device', device=8.1)[0] == 'device'
  with pytest.raises(
    UserError,
    match=r'8.00 GiB in float32 .* for train and val, but 7.90 GiB are free',
  ):
    settle(pipeline='device', device=7.9)


def test_unknown_words_are_refused(settle):
  with pytest.raises(UserError, match="pipeline='disk' is unknown; choose one"):
    settle(pipeline='disk')
  with pytest.raises(ValueError, match='float16'):
    settle(device_dtype='float16')


def test_dtype_of_features_on_the_device():
  config = importlib.import_module('configs.tvr').get_config()
  assert residency.device_dtype(config) == np.float32
  config.dtype = 'bfloat16'
  assert residency.device_dtype(config) == jnp.bfloat16
  config.data.device_dtype = 'float32'
  assert residency.device_dtype(config) == np.float32


@pytest.mark.parametrize('pipeline', ['resident', 'streaming'])
def test_only_the_device_pipeline_places(pipeline):
  config = importlib.import_module('configs.tvr').get_config()
  config.data.pipeline = pipeline
  mesh = meshes.make_mesh(1)
  assert residency.place_split(TRAIN, config, mesh) is None
