"""CLIP's towers against the goldens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamprvr_jax.archive.encoders.architecture import Architecture
from dreamprvr_jax.archive.encoders.clip import ClipText
from dreamprvr_jax.archive.encoders.image_text import _shapes, _towers
from dreamprvr_jax.archive.encoders.weights import Weights
from tests.helpers.image_text import GOLDEN, distance, golden

FILE = golden()
WITHIN = {'float32': 1e-5, 'bfloat16': 1e-2}


def outputs(name, dtype):
  """Returns what both towers make of the golden inputs."""
  read = lambda key: FILE[f'{name}/{key}']
  text, vision = _towers(Architecture.read(GOLDEN / name, name.split('_')[0]))
  weights = Weights(GOLDEN / name)
  load = lambda tower: {
    'params': weights.tree(_shapes(tower), jnp.dtype(dtype), np.asarray)
  }
  pixels = read('pixel_values').transpose(0, 2, 3, 1)
  hidden, pooled = jax.jit(vision.apply)(load(vision), pixels)
  ids = read('input_ids').astype(np.int32)
  # SigLIP has no mask.
  real = np.asarray(FILE.get(f'{name}/attention_mask', ids), bool)
  words, sentence = jax.jit(text.apply)(load(text), ids, real)
  return {
    'vision_last_hidden': hidden,
    'image_features_raw': pooled,
    'text_last_hidden': words,
    'text_features_raw': sentence,
  }


@pytest.mark.parametrize('dtype', WITHIN)
@pytest.mark.parametrize('name', ['clip_quick_gelu', 'clip_gelu'])
def test_goldens(name, dtype):
  for key, value in outputs(name, dtype).items():
    assert distance(value, FILE[f'{name}/{key}']) < WITHIN[dtype], key
    assert value.dtype == jnp.float32


def test_the_end_of_a_text_in_old_files():
  shape = Architecture.read(GOLDEN / 'clip_gelu', 'clip').text
  weights = Weights(GOLDEN / 'clip_gelu')
  old = type(shape)(
    shape.layers, shape.vocabulary, shape.positions, 2, shape.output
  )
  params = weights.tree(
    _shapes(ClipText(shape)), jnp.dtype('float32'), np.asarray
  )
  ids = np.full((1, 16), 98, np.int32)
  ids[0, :4] = 97, 2, 5, 3
  real = np.ones((1, 16), bool)
  one, other = (
    jax.jit(ClipText(s).apply)({'params': params}, ids, real)[1]
    for s in (shape, old)
  )
  # The highest id is the token at the end.
  np.testing.assert_array_equal(one, other)
