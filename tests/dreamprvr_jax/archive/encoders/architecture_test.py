"""Sizes from config.json."""

import pytest

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders.architecture import (
  Architecture,
  Layers,
  Text,
  Vision,
)
from tests.helpers.image_text import write


def read(tmp_path, network, **config):
  write(tmp_path / 'config.json', {'model_type': network, **config})
  return Architecture.read(tmp_path, network)


def test_missing_keys_are_those_of_the_first_models(tmp_path):
  """openai/clip-vit-base-patch32 and google/siglip-base-patch16-224."""
  assert read(tmp_path, 'clip') == Architecture(
    'clip',
    Text(Layers(512, 2048, 12, 8, 'quick_gelu', 1e-5), 49408, 77, 49407, 512),
    Vision(Layers(768, 3072, 12, 12, 'quick_gelu', 1e-5), 224, 32, 512),
  )
  layers = Layers(768, 3072, 12, 12, 'gelu_pytorch_tanh', 1e-6)
  found = read(tmp_path, 'siglip')
  assert found.vision == Vision(layers, 224, 16, 768)
  assert (found.text.layers, found.text.positions) == (layers, 64)
  assert (found.text.vocabulary, found.text.output) == (32000, 768)


def test_keys_of_old_files_win(tmp_path):
  found = read(
    tmp_path,
    'clip',
    projection_dim=768,
    text_config={'hidden_size': 512, 'eos_token_id': 2},
    text_config_dict={'hidden_size': 768, 'num_attention_heads': 12},
    vision_config_dict=None,
  )
  assert found.text.layers.width == 768
  assert found.text.end == 2
  assert found.text.output == found.vision.output == 768


def test_a_projection_of_another_width(tmp_path):
  found = read(tmp_path, 'siglip', text_config={'projection_size': 1152})
  assert found.text.output == 1152
  found = read(tmp_path, 'siglip', vision_config={'image_size': [384, 384]})
  assert found.vision.side == 384


@pytest.mark.parametrize(
  ('part', 'key', 'value', 'sentence'),
  [
    ('text', 'hidden_size', 100, '8 heads do not divide'),
    ('text', 'hidden_act', 'relu', "hidden_act='relu'; known are quick_gelu"),
    ('text', 'vocab_size', 0, 'vocab_size=0 is no whole number above 0'),
    ('text', 'layer_norm_eps', 'x', 'could not convert'),
    ('vision', 'image_size', 8, 'image_size=8 is below patch_size=32'),
    ('vision', 'image_size', [8, 9], 'no whole number'),
    ('vision', 'vision_use_head', False, 'leaves no vector'),
  ],
)
def test_values_that_cannot_be(part, key, value, sentence, tmp_path):
  with pytest.raises(DataError, match=f'config.json has a key.*{sentence}'):
    read(tmp_path, 'clip', **{f'{part}_config': {key: value}})


def test_files_that_are_no_objects(tmp_path):
  with pytest.raises(DataError, match='a model is a folder in the hub'):
    Architecture.read(tmp_path, 'clip')
  (tmp_path / 'config.json').write_text('[1]')
  with pytest.raises(DataError, match='no JSON object'):
    Architecture.read(tmp_path, 'clip')
