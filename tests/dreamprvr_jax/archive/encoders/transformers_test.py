"""The same models in transformers: folders that it writes, with random
weights."""

import hashlib

import numpy as np
import pytest

from dreamprvr_jax.archive import encoders
from tests.helpers.hub import make_clip, make_siglip, make_siglip2
from tests.helpers.image_text import distance

torch = pytest.importorskip('torch', reason='the extra bench is not installed')
transformers = pytest.importorskip(
  'transformers', reason='the extra bench is not installed'
)
pytest.importorskip('tokenizers', reason='the extra hub is not installed')
pytest.importorskip('sentencepiece', reason='the extra hub is not installed')

MAKE = {'clip': make_clip, 'siglip': make_siglip, 'siglip2': make_siglip2}
SIZES = [(32, 32), (61, 97), (97, 61), (200, 40), (64, 64)]
RANDOM = np.random.default_rng(0)
IMAGES = [RANDOM.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
TEXTS = (
  'a dog runs',
  'A  Dog, runs! Its end.\n two',
  'x',
  '!!!',
  'été ½ dog-cat',
  # Longer than the model's positions.
  'two cats sleep ' * 40,
)


@pytest.fixture(scope='module', params=MAKE)
def both(request, tmp_path_factory):
  place = MAKE[request.param](tmp_path_factory.mktemp('hub') / request.param)
  theirs = transformers.AutoModel.from_pretrained(place).eval()
  return encoders.build(f'{request.param}:{place}'), theirs, place


def test_pictures(both):
  ours, theirs, place = both
  try:
    from transformers.models.clip import image_processing_pil_clip as clip
    from transformers.models.siglip import image_processing_pil_siglip as siglip

    kind = (
      clip.CLIPImageProcessorPil
      if ours.name == 'clip'
      else siglip.SiglipImageProcessorPil
    )
  except ImportError:  # Up to transformers 4, Pillow is the usual way.
    kind = (
      transformers.CLIPImageProcessor
      if ours.name == 'clip'
      else transformers.SiglipImageProcessor
    )
  processor = kind.from_pretrained(place)
  pixels = [
    processor(
      images=[image],
      return_tensors='pt',
      input_data_format='channels_last',
    )['pixel_values']
    for image in IMAGES
  ]
  for image, wanted in zip(IMAGES, pixels, strict=True):
    found = ours._preparation.normal(ours.prepare(image)[None])
    np.testing.assert_allclose(
      found.transpose(0, 3, 1, 2), wanted.numpy(), rtol=0, atol=1e-6
    )
  with torch.inference_mode():
    wanted = theirs.get_image_features(pixel_values=torch.cat(pixels))
  wanted = getattr(wanted, 'pooler_output', wanted).numpy()
  assert distance(ours.pictures(IMAGES), wanted) < 1e-5


@pytest.mark.parametrize('text', TEXTS)
def test_sentences_and_words(both, text):
  ours, theirs, place = both
  tokenizer = transformers.AutoTokenizer.from_pretrained(place)
  length = theirs.config.text_config.max_position_embeddings
  lower = text.lower() if ours.name == 'siglip2' else text
  inputs = tokenizer(
    [lower],
    padding='max_length',
    padding_side='right',
    truncation=True,
    max_length=length,
    return_attention_mask=True,
    return_tensors='pt',
  )
  ids, real = ours._tokens(text)
  np.testing.assert_array_equal(real, inputs['attention_mask'].numpy() > 0)
  np.testing.assert_array_equal(ids[real], inputs['input_ids'].numpy()[real])
  mask = {'attention_mask': inputs['attention_mask']}
  if ours.name != 'clip':
    np.testing.assert_array_equal(ids, inputs['input_ids'].numpy())
    mask = {}
  with torch.inference_mode():
    vector = theirs.get_text_features(input_ids=inputs['input_ids'], **mask)
    hidden = theirs.text_model(input_ids=inputs['input_ids'], **mask)
  vector = getattr(vector, 'pooler_output', vector)[0].numpy()
  assert distance(ours.sentence(text), vector / np.linalg.norm(vector)) < 1e-5
  kept = real[0].copy()
  kept[0], kept[-1] = kept[0] and not mask, kept[-1] or not mask
  wanted = hidden.last_hidden_state[0].numpy()[kept]
  assert distance(ours.words(text), wanted) < 1e-5


def test_the_digest_is_that_of_former_versions(both):
  ours, theirs, _ = both
  hashed = hashlib.sha256()
  for name, value in sorted(theirs.named_parameters()):
    hashed.update(name.encode())
    hashed.update(value.detach().float().contiguous().numpy().data)
  assert ours.identity['weights'] == hashed.hexdigest()[:16]


def test_parts_and_narrow_numbers(both, tmp_path):
  ours, theirs, place = both
  theirs.save_pretrained(tmp_path, max_shard_size='20KB')
  assert len(list(tmp_path.glob('model-*.safetensors'))) > 1
  for name in ('tokenizer.json', 'spiece.model', 'tokenizer_config.json'):
    if (place / name).exists():
      (tmp_path / name).write_bytes((place / name).read_bytes())
  settings = (place / 'preprocessor_config.json').read_bytes()
  (tmp_path / 'preprocessor_config.json').write_bytes(settings)
  again = encoders.build(f'{ours.name}:{tmp_path}')
  np.testing.assert_array_equal(again.pictures(IMAGES), ours.pictures(IMAGES))
  assert again.identity['weights'] == ours.identity['weights']
  half = encoders.build(f'{ours.name}:{place}', dtype='bfloat16')
  assert distance(half.pictures(IMAGES), ours.pictures(IMAGES)) < 1e-2
