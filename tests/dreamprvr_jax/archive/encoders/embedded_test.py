"""The encoder without weights."""

import subprocess
import sys

import numpy as np
import pytest

from data_pipeline.errors import DataError
from dreamprvr_jax.archive import encoders
from tests.helpers.runs import ROOT

ENCODER = encoders.build('embedded')
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)


def test_widths_and_identity():
  assert ENCODER.frames(IMAGES).shape == (5, ENCODER.visual_width)
  assert ENCODER.frames(IMAGES).dtype == np.float32
  assert ENCODER.words('a dog runs').shape == (3, ENCODER.text_width)
  assert ENCODER.words('a dog').dtype == np.float32
  assert not ENCODER.semantic
  assert ENCODER.size(1080, 1920) == (64, 64)
  again = encoders.from_identity(ENCODER.identity)
  np.testing.assert_array_equal(again.frames(IMAGES), ENCODER.frames(IMAGES))


def test_batches_do_not_matter():
  parts = [ENCODER.frames(IMAGES[:2]), ENCODER.frames(IMAGES[2:], IMAGES[1])]
  np.testing.assert_array_equal(np.concatenate(parts), ENCODER.frames(IMAGES))


def test_what_is_seen():
  plain = np.zeros((4, 64, 64, 3), np.uint8)
  plain[0] += 200
  plain[2, :, :, 0] = 200
  plain[3, :32] = 200
  x = ENCODER.frames(plain[[0, 0, 2, 3]])
  assert np.isfinite(x).all()
  # Equal pictures have equal features; colours and edges tell others apart.
  np.testing.assert_array_equal(x[0], x[1])
  assert np.linalg.norm(x[1] - x[2]) > 0.5
  assert np.linalg.norm(x[2] - x[3]) > 0.5
  moved = ENCODER.frames(plain[[3, 0]])[1] - ENCODER.frames(plain[[0]])[0]
  assert np.abs(moved).max() > 0.05


def test_words_of_one_stem_are_alike():
  words = ENCODER.words('Play plays! guitar PLAY')
  cosines = words @ words.T
  np.testing.assert_allclose(np.diag(cosines), 1, rtol=1e-5)
  np.testing.assert_array_equal(words[0], words[3])
  assert cosines[0, 1] > 0.25 > abs(cosines[0, 2])


def test_odd_texts():
  assert ENCODER.words('').shape == (0, ENCODER.text_width)
  assert ENCODER.words(' \n').shape == (0, ENCODER.text_width)
  assert ENCODER.words('!?').shape == (1, ENCODER.text_width)
  assert ENCODER.words('猫が 走る').shape == (2, ENCODER.text_width)


def test_other_processes_have_the_same_words():
  code = (
    'from dreamprvr_jax.archive import encoders;'
    'x = encoders.build("embedded").words("two pandas");'
    'print((x > 0).astype(int).ravel().tolist())'
  )
  found = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  own = (ENCODER.words('two pandas') > 0).astype(int).ravel().tolist()
  assert found.stdout.strip() == str(own), found.stderr


def test_unknown_encoders():
  for name in ('nothing', 'embedded:big', ''):
    with pytest.raises(DataError, match='is unknown'):
      encoders.build(name)
  former = {**ENCODER.identity, 'version': 0}
  with pytest.raises(DataError, match='version differ'):
    encoders.from_identity(former)


def test_still_pictures_look_like_their_frames():
  image = np.kron(
    np.random.default_rng(0).integers(0, 256, (6, 8, 3)), np.ones((40, 40, 1))
  ).astype(np.uint8)
  large, small = ENCODER.pictures([image, ENCODER.prepare(image[::2, ::2])])
  assert large.shape == (ENCODER.visual_width,)
  assert large @ small > 0.98 * large @ large
  still = ENCODER.frames(np.stack([image[:64, :64]] * 2))
  np.testing.assert_array_equal(
    ENCODER.pictures([image[:64, :64]])[0], still[1]
  )
  assert ENCODER.pictures([]).shape == (0, ENCODER.visual_width)


def test_no_sentence_has_a_vector():
  assert not ENCODER.shared
  assert not ENCODER.on_device
  with pytest.raises(DataError, match=r'ask with a picture, or use.*siglip2'):
    ENCODER.sentence('a dog')
