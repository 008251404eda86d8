"""Weights from one file or several, and files that are refused."""

import hashlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders.architecture import Architecture
from dreamprvr_jax.archive.encoders.image_text import _shapes, _towers
from dreamprvr_jax.archive.encoders.weights import Weights, expected
from tests.helpers.image_text import GOLDEN

NAME = 'model.safetensors'
TENSORS = safetensors.numpy.load_file(GOLDEN / 'siglip' / NAME)
SHAPES = [
  _shapes(tower)
  for tower in _towers(Architecture.read(GOLDEN / 'siglip', 'siglip'))
]
SCALES = {'logit_scale': (1,), 'logit_bias': (1,)}
LAYER = 'text_model.encoder.layers.1.mlp.fc1.weight'


def save(folder, tensors, parts=1):
  """Writes tensors into so many files."""
  if parts == 1:
    safetensors.numpy.save_file(tensors, folder / NAME)
    return
  places = {}
  for i in range(parts):
    few = dict(sorted(tensors.items())[i::parts])
    file = f'model-{i + 1:05}-of-{parts:05}.safetensors'
    safetensors.numpy.save_file(few, folder / file)
    places |= dict.fromkeys(few, file)
  index = {'metadata': {}, 'weight_map': places}
  (folder / f'{NAME}.index.json').write_text(json.dumps(index))


def flat(folder, dtype='float32'):
  weights = Weights(folder)
  trees = [weights.tree(s, np.dtype(dtype), np.asarray) for s in SHAPES]
  return jax.tree.leaves(trees)


def test_names_are_those_of_the_file():
  weights = Weights(GOLDEN / 'siglip')
  weights.check({**expected(SHAPES), **SCALES})
  tree = weights.tree(SHAPES[0], np.dtype('float32'), np.asarray)
  stacked = tree['text_model']['encoder']['layers']['mlp']['fc1']['weight']
  assert stacked.shape == (3, 64, 32)
  np.testing.assert_array_equal(stacked[1], TENSORS[LAYER])


@pytest.mark.parametrize('parts', [1, 3])
@pytest.mark.parametrize('dtype', ['float32', 'float16', 'bfloat16'])
def test_files_of_every_form(parts, dtype, tmp_path):
  narrow = {k: v.astype(jnp.dtype(dtype)) for k, v in TENSORS.items()}
  # Older versions stored the numbers of the positions.
  name = 'text_model.embeddings.position_ids'
  save(tmp_path, {**narrow, name: np.arange(16)[None]}, parts)
  weights = Weights(tmp_path)
  weights.check({**expected(SHAPES), **SCALES})
  for found, wanted in zip(
    flat(tmp_path), flat(GOLDEN / 'siglip'), strict=True
  ):
    assert found.dtype == np.float32
    np.testing.assert_array_equal(
      found, wanted.astype(jnp.dtype(dtype)).astype(np.float32)
    )
  hashed = hashlib.sha256()
  for key, value in sorted(narrow.items()):
    hashed.update(key.encode() + value.astype(np.float32).tobytes())
  assert weights.digest() == hashed.hexdigest()[:16]


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    ({LAYER: None}, f'lacks the tensor {LAYER} with the shape'),
    ({LAYER: np.zeros((3, 4))}, r'has the shape \(3, 4\).*asks for \(64, 32\)'),
    ({'more': np.zeros(3)}, 'has the tensor more, which the architecture'),
    (
      {'text_model.encoder.layers.3.mlp.fc1.weight': np.zeros(3)},
      'has the tensor text_model.encoder.layers.3',
    ),
  ],
)
@pytest.mark.parametrize('parts', [1, 2])
def test_tensors_that_do_not_fit(change, sentence, parts, tmp_path):
  tensors = {k: v for k, v in {**TENSORS, **change}.items() if v is not None}
  save(tmp_path, tensors, parts)
  with pytest.raises(DataError, match=sentence):
    Weights(tmp_path).check({**expected(SHAPES), **SCALES})


def test_files_that_are_missing_or_damaged(tmp_path):
  with pytest.raises(
    DataError, match=r'has no model.safetensors; take a model'
  ):
    Weights(tmp_path)
  (tmp_path / 'pytorch_model.bin').touch()
  with pytest.raises(
    DataError, match=r'only pytorch_model.bin.*MODEL@REVISION'
  ):
    Weights(tmp_path)
  save(tmp_path, TENSORS, 2)
  parts = sorted(tmp_path.glob('model-*'))
  shutil.copyfile(parts[1], parts[0])
  with pytest.raises(DataError, match=r'00001-of-00002.* lacks the tensor'):
    Weights(tmp_path)
  parts[0].unlink()
  with pytest.raises(DataError, match=r'00001-of-00002.* is missing'):
    Weights(tmp_path)
  (tmp_path / f'{NAME}.index.json').write_text('{}')
  with pytest.raises(DataError, match='no weight_map'):
    Weights(tmp_path)
  whole = (GOLDEN / 'siglip' / NAME).read_bytes()
  (tmp_path / NAME).write_bytes(whole[:-100])
  with pytest.raises(DataError, match='cannot be read'):
    Weights(tmp_path)
