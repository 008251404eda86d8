"""Tiny CLIP and SigLIP models with random weights, from a folder."""

import numpy as np
import pytest

from data_pipeline.errors import DataError
from dreamprvr_jax.archive import encoders
from dreamprvr_jax.archive.extraction.video import extract_file
from tests.helpers.hub import make_clip, make_siglip
from tests.helpers.videos import make_video

torch = pytest.importorskip('torch', reason='the extra hub is not installed')
pytest.importorskip('transformers', reason='the extra hub is not installed')
pytest.importorskip('sentencepiece', reason='the extra hub is not installed')

MAKE = {'clip': make_clip, 'siglip': make_siglip}
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


@pytest.fixture(scope='module', params=MAKE)
def encoder(request, tmp_path_factory):
  place = MAKE[request.param](tmp_path_factory.mktemp('hub') / request.param)
  return encoders.build(f'{request.param}:{place}', device='cpu')


def test_frames_are_the_picture_embeddings(encoder):
  found = encoder.frames(IMAGES)
  assert found.shape == (5, {'clip': 12, 'siglip': 24}[encoder.name])
  assert found.dtype == np.float32
  assert found.shape[1] == encoder.visual_width
  pixels = torch.tensor(IMAGES.transpose(0, 3, 1, 2) / 255 * 2 - 1).float()
  with torch.no_grad():
    tower = encoder._model.vision_model(pixel_values=pixels).pooler_output
    if encoder.name == 'clip':
      tower = encoder._model.visual_projection(tower)
  np.testing.assert_allclose(found, tower.numpy(), atol=1e-5)
  parts = [encoder.frames(IMAGES[:2]), encoder.frames(IMAGES[2:], IMAGES[1])]
  np.testing.assert_allclose(np.concatenate(parts), found, atol=1e-6)


def test_sizes(encoder):
  clip = encoder.name == 'clip'
  assert encoder.size(64, 128) == ((32, 64) if clip else (32, 32))
  assert encoder.size(128, 64) == ((64, 32) if clip else (32, 32))
  # CLIP sees the middle of a wide picture.
  if clip:
    wide = np.pad(IMAGES, ((0, 0), (0, 0), (8, 8), (0, 0)), 'edge')
    np.testing.assert_allclose(
      encoder.frames(wide), encoder.frames(IMAGES), atol=1e-6
    )


def test_words_are_the_tokens_of_the_text_tower(encoder):
  words = encoder.words('a dog runs')
  assert words.dtype == np.float32
  assert words.shape[1] == encoder.text_width == 16
  assert 3 <= len(words) < 20
  assert np.isfinite(words).all()
  np.testing.assert_array_equal(words, encoder.words('a dog runs'))
  assert len(encoder.words('a dog runs ' * 50)) <= 20
  assert encoder.words(' ').shape == (0, 16)


def test_the_sentence_vector_is_the_last_row(encoder):
  clip = encoder.name == 'clip'
  tokens = encoder._tokenizer(
    ['a dog'],
    padding=not clip and 'max_length',
    max_length=20,
    return_tensors='pt',
  )
  with torch.no_grad():
    tower = encoder._model.text_model(input_ids=tokens['input_ids'])
  last = encoder.words('a dog')[-1:]
  if not clip:
    last = encoder._model.text_model.head(torch.tensor(last)).detach().numpy()
  np.testing.assert_allclose(last, tower.pooler_output.numpy(), atol=1e-5)


def test_identity(encoder, tmp_path):
  again = encoders.from_identity(encoder.identity)
  np.testing.assert_array_equal(again.frames(IMAGES), encoder.frames(IMAGES))
  other = {**encoder.identity, 'weights': '0'}
  with pytest.raises(DataError, match='weights differ'):
    encoders.from_identity(other)
  half = encoders.build(
    f'{encoder.name}:{encoder.identity["model"]}', dtype='bfloat16'
  )
  assert half.identity['dtype'] == 'bfloat16'
  np.testing.assert_allclose(
    half.frames(IMAGES), encoder.frames(IMAGES), atol=0.1
  )


def test_a_file(encoder, tmp_path):
  path = make_video(tmp_path / 'a.mp4', size=(48, 64))
  found = extract_file(str(path), encoder.identity, 4.0, batch=3)
  assert found.features.shape == (8, encoder.visual_width)
  assert np.isfinite(found.features).all()


def test_models_that_cannot_be(encoder, tmp_path):
  kind, place = encoder.name, encoder.identity['model']
  other = {'clip': 'siglip', 'siglip': 'clip'}[kind]
  with pytest.raises(DataError, match=f"of the kind '{kind}', not '{other}'"):
    encoders.build(f'{other}:{place}')
  with pytest.raises(DataError, match='cannot be loaded'):
    encoders.build(f'{kind}:{tmp_path}')
  with pytest.raises(DataError, match='float8'):
    encoders.build(f'{kind}:{place}', dtype='float8')
