"""Encoders from tiny model folders: on one device and eight, and refused."""

import json
import pickle

import jax
import numpy as np
import pytest

from data_pipeline.errors import DataError
from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.encoders import image_text
from dreamprvr_jax.devices import meshes
from tests.helpers.image_text import (
  KINDS,
  LENGTH,
  SIDE,
  change,
  distance,
  golden,
  make_model,
)

pytest.importorskip('tokenizers', reason='the extra hub is not installed')
FILE = golden()
RANDOM = np.random.default_rng(0)
SIZES = [(SIDE, SIDE), (61, 97), (97, 61), (200, 40), (32, 33)]
IMAGES = [RANDOM.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


# SigLIP 1 differs from 2 in its tokenizer.
@pytest.fixture(scope='module', params=['clip', 'siglip2'])
def encoder(request, tmp_path_factory):
  place = make_model(tmp_path_factory.mktemp('hub') / 'm', request.param)
  return encoders.build(f'{request.param}:{place}', batch=4)


def test_what_it_says_of_itself(encoder):
  assert encoder.semantic
  assert encoder.shared
  assert encoder.on_device
  assert encoder.visual_width == (24 if encoder.name == 'clip' else 32)
  assert encoder.text_width == 32
  # Four pictures are rounded up to the devices.
  assert encoder.batch == jax.device_count()
  scale, bias = encoder.calibration
  images = FILE[f'{KINDS[encoder.name]}/image_embeds']
  texts = FILE[f'{KINDS[encoder.name]}/text_embeds']
  logits = FILE[f'{KINDS[encoder.name]}/logits_per_image']
  assert distance(images @ texts.T * scale + bias, logits) < 1e-5


def test_frames_are_the_goldens_on_all_devices(encoder, monkeypatch):
  """The golden pictures as uint8 cannot be had, so the numbers are put in."""
  name = KINDS[encoder.name]
  one = image_text.ImageText.load(encoder.name, encoder.identity['model'])
  pixels = FILE[f'{name}/pixel_values'].transpose(0, 2, 3, 1)
  monkeypatch.setattr(
    type(one._preparation), 'normal', lambda self, images: images
  )
  assert jax.device_count() == 8
  padded = np.zeros((8, *pixels.shape[1:]), np.float32)
  padded[:3] = pixels
  found = one._see(padded)
  assert len(found.sharding.device_set) == 8
  assert distance(found[:3], FILE[f'{name}/image_features_raw']) < 1e-5


def test_many_pictures_one_by_one_and_on_one_device(encoder):
  all_at_once = encoder.pictures(IMAGES * 3)
  assert all_at_once.dtype == np.float32
  assert all_at_once.shape == (15, encoder.visual_width)
  for image, row in zip(IMAGES, all_at_once, strict=False):
    assert distance(encoder.pictures([image])[0], row) < 1e-5
  settings = image_text.Settings(
    jax.sharding.Mesh(
      np.asarray(jax.devices()[:1]).reshape(1, 1),
      meshes.local_mesh().axis_names,
    ),
    'float32',
    4,
  )
  alone = image_text.ImageText(
    encoder.identity,
    encoder._architecture,
    encoder._weights,
    encoder._tokens,
    encoder._preparation,
    settings,
  )
  assert distance(alone.pictures(IMAGES * 3), all_at_once) < 1e-5
  assert encoder.pictures([]).shape == (0, encoder.visual_width)


def test_frames_are_prepared_pictures(encoder):
  size, prepare = pickle.loads(pickle.dumps((encoder.size, encoder.prepare)))
  # Decoded in full, for Pillow's filter.
  assert size(720, 1280) == (720, 1280)
  prepared = np.stack([prepare(image) for image in IMAGES])
  assert prepared.shape == (5, SIDE, SIDE, 3)
  np.testing.assert_array_equal(prepared[0], IMAGES[0])
  np.testing.assert_array_equal(
    encoder.frames(prepared), encoder.pictures(IMAGES)
  )


def test_sentences(encoder):
  name = KINDS[encoder.name]
  vector = encoder.sentence('a dog')
  assert vector.shape == (encoder.visual_width,)
  assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
  assert not np.allclose(vector, encoder.sentence('a cat'))
  # The golden ids, in place of a tokenizer's.
  ids = FILE[f'{name}/input_ids'].astype(np.int32)
  real = np.asarray(FILE.get(f'{name}/attention_mask', ids), bool)
  for i, wanted in enumerate(FILE[f'{name}/text_embeds']):
    encoder._last = None
    tokens, encoder._tokens = (
      encoder._tokens,
      lambda _, i=i: (ids[i : i + 1], real[i : i + 1]),
    )
    assert distance(encoder.sentence(f'{i}'), wanted) < 1e-5
    encoder._tokens = tokens
  with pytest.raises(DataError, match='no text'):
    encoder.sentence(' ')


def test_words_keep_the_tokens_that_count(encoder):
  words = encoder.words('a dog')
  assert words.shape == (
    {'clip': 5, 'siglip2': 7}[encoder.name],
    32,
  )
  assert words.dtype == np.float32
  assert encoder.words(' ').shape == (0, 32)
  last = {'clip': 15, 'siglip2': 16}[encoder.name]
  assert len(encoder.words('a cat ' * 40)) == last <= LENGTH


def test_bfloat16(encoder):
  half = encoders.build(
    f'{encoder.name}:{encoder.identity["model"]}', dtype='bfloat16'
  )
  assert half.identity['dtype'] == 'bfloat16'
  assert distance(half.pictures(IMAGES), encoder.pictures(IMAGES)) < 1e-2


def test_identity(encoder, tmp_path):
  again = encoders.from_identity(json.loads(json.dumps(encoder.identity)))
  assert again.identity == encoder.identity
  # The weights say which model it is, not the place.
  moved = make_model(tmp_path / 'moved', encoder.name)
  found = encoders.from_identity({**encoder.identity, 'model': str(moved)})
  assert found.identity['model'] == str(moved)
  with pytest.raises(DataError, match='weights differ'):
    encoders.from_identity({**encoder.identity, 'weights': '0'})
  gone = {**encoder.identity, 'model': str(tmp_path / 'gone')}
  with pytest.raises(DataError, match='neither a folder here nor a name'):
    encoders.from_identity(gone)


@pytest.mark.parametrize(
  ('kind', 'file', 'changes', 'sentence'),
  [
    (
      'clip',
      'config.json',
      {'model_type': 'blip'},
      "architecture 'blip'.*siglip",
    ),
    ('siglip2', 'config.json', {'model_type': 'siglip2'}, 'naflex'),
    ('clip', 'config.json', {'model_type': 'siglip'}, "'siglip', not 'clip'"),
    ('clip', 'config.json', {'text_config': 3}, 'text_config is no object'),
    (
      'clip',
      'config.json',
      {'projection_dim': 7},
      r'shape \(24, 32\).*\(7, 32',
    ),
    (
      'siglip',
      'preprocessor_config.json',
      {'size': {'height': 16, 'width': 16}},
      'pictures of 16 pixels.*takes 32',
    ),
  ],
)
def test_models_that_cannot_be(kind, file, changes, sentence, tmp_path):
  place = make_model(tmp_path / 'm', kind)
  change(place / file, **changes)
  with pytest.raises(DataError, match=sentence):
    encoders.build(f'{kind}:{place}')


@pytest.mark.parametrize(
  'file', ['config.json', 'preprocessor_config.json', 'tokenizer.json']
)
def test_files_that_are_missing_or_damaged(file, tmp_path):
  place = make_model(tmp_path / 'm', 'clip')
  (place / file).write_text('{"a')
  with pytest.raises(DataError, match=f'{file} is no JSON'):
    encoders.build(f'clip:{place}')
  (place / file).unlink()
  with pytest.raises(DataError, match=f'{file} cannot be read'):
    encoders.build(f'clip:{place}')


def test_flags_that_cannot_be(tmp_path):
  place = make_model(tmp_path / 'm', 'clip')
  with pytest.raises(DataError, match='float8'):
    encoders.build(f'clip:{place}', dtype='float8')
  with pytest.raises(DataError, match="no device 'abacus'"):
    encoders.build(f'clip:{place}', device='abacus')
