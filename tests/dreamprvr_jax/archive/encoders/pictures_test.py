"""Preparing pictures as transformers' image processors do."""

import numpy as np
import pytest

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders.pictures import Preparation
from tests.helpers.image_text import golden, write

FILE = golden()
IMAGE = FILE['preprocess/image']
SQUARE = {'height': 32, 'width': 32}
CLIP = {'size': {'shortest_edge': 32}, 'crop_size': SQUARE}


def read(folder, network, **settings):
  write(folder / 'preprocessor_config.json', settings)
  return Preparation.read(folder, network)


@pytest.mark.parametrize(
  ('network', 'settings'),
  [
    ('clip', CLIP),
    # The forms of old files.
    ('clip', {'size': 32, 'crop_size': 32}),
    ('siglip', {'size': SQUARE}),
    ('siglip', {'size': 32, 'resample': 3, 'do_convert_rgb': None}),
  ],
)
def test_goldens(network, settings, tmp_path):
  found = read(tmp_path, network, **settings)
  pixels = found.normal(found.prepare(IMAGE)[None])
  assert pixels.dtype == np.float32
  wanted = FILE[f'preprocess/{network}'].transpose(1, 2, 0)
  np.testing.assert_allclose(pixels[0], wanted, rtol=0, atol=1e-6)


def test_the_file_of_a_whole_processor(tmp_path):
  inner = {'size': {'height': 8, 'width': 8}, 'image_mean': [0, 0, 0]}
  write(tmp_path / 'processor_config.json', {'image_processor': inner})
  found = Preparation.read(tmp_path, 'siglip')
  assert (found.side, found.mean) == (8, (0, 0, 0))


def test_missing_keys_are_those_of_the_first_models(tmp_path):
  found = read(tmp_path, 'clip')
  assert (found.side, found.shortest, found.resample) == (224, 224, 3)
  assert found.mean[0] == 0.48145466
  found = read(tmp_path, 'siglip')
  assert (found.side, found.shortest, found.mean[0]) == (224, 0, 0.5)


def test_the_middle_of_long_pictures(tmp_path):
  found = read(tmp_path, 'clip', **CLIP)
  wide = np.zeros((32, 96, 3), np.uint8)
  wide[:, 32:64] = 200
  assert (found.prepare(wide) == 200).all()
  assert (found.prepare(wide.transpose(1, 0, 2)) == 200).all()
  smaller = read(tmp_path, 'clip', size={'shortest_edge': 40}, crop_size=SQUARE)
  assert smaller.prepare(wide).shape == (32, 32, 3)


def test_a_strip_does_not_become_gigabytes(tmp_path):
  found = read(tmp_path, 'clip', **CLIP)
  strip = np.zeros((2, 1 << 20, 3), np.uint8)
  assert found.prepare(strip).shape == (32, 32, 3)
  assert found.prepare(strip.transpose(1, 0, 2)).shape == (32, 32, 3)


def test_a_filter_by_number(tmp_path):
  linear = read(tmp_path, 'siglip', size=SQUARE, resample=2).prepare(IMAGE)
  cubic = read(tmp_path, 'siglip', size=SQUARE, resample=3).prepare(IMAGE)
  assert (linear != cubic).any()


@pytest.mark.parametrize(
  ('settings', 'sentence'),
  [
    ({'do_resize': False}, 'do_resize=false'),
    ({'do_normalize': False}, 'do_normalize=false'),
    ({'size': {'height': 8, 'width': 9}, 'do_center_crop': False}, 'no square'),
    ({'size': {'longest_edge': 8}}, "'height'"),
    ({'size': {'shortest_edge': 8}}, 'crop_size=224 is above the size 8'),
    ({'do_center_crop': False}, 'leaves no square'),
    ({'image_mean': [0.5]}, 'not enough values'),
    ({'resample': 99}, '99 is not a valid'),
  ],
)
def test_settings_that_cannot_be(settings, sentence, tmp_path):
  with pytest.raises(DataError, match=f'preprocessor_config.*{sentence}'):
    read(tmp_path, 'clip', **settings)
