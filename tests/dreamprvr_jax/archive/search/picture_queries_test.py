"""Queries that are pictures or clips."""

import io

import numpy as np
import pytest
from PIL import Image

from dreamprvr_jax.archive.encoders import Embedded
from dreamprvr_jax.archive.search.picture_queries import (
  PictureQueries,
  mean_direction,
)
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.models.base import RetrievalModel
from tests.helpers.models import shared_fields
from tests.helpers.searching import Plain, retriever
from tests.helpers.videos import make_video

WIDTH = Embedded.visual_width
PICTURE = np.zeros((40, 30, 3), np.uint8)
PICTURE[:20] = (250, 120, 10)


class Sentences(Plain):
  """Reads sentences, as retrievers without training do."""

  reads = 'sentence'


class Wordy(Plain):
  """Has a score of its own."""

  def compare(self, queries, tokens, mask):
    return RetrievalModel.compare(self, queries, tokens, mask)


def opened(kind, **stored):
  data = {'max_words': 2, 'max_frames': 6, 'num_clips': 3}
  stored = {'visual_width': WIDTH, 'config': {'data': data}, **stored}
  return retriever(kind(**shared_fields()), **stored)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_vector_of_a_picture_is_the_sentence():
  encoder = Embedded()
  found = PictureQueries(opened(Sentences), encoder).picture(PICTURE)
  expected = unit(encoder.pictures([PICTURE])[0])
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_file_is_read_as_the_picture_it_holds(tmp_path):
  queries = PictureQueries(opened(Sentences), Embedded())
  file = io.BytesIO()
  Image.fromarray(PICTURE).save(file, 'PNG')
  np.testing.assert_array_equal(
    queries.file(file.getvalue()), queries.picture(PICTURE)
  )
  with pytest.raises(UserError, match=r'^what was dropped: the file is no'):
    queries.file(b'nothing', 'what was dropped')


def test_a_clip_is_the_mean_of_its_pictures(tmp_path):
  encoder = Embedded()
  path = make_video(tmp_path / 'v.mp4', pictures=40)
  found = PictureQueries(opened(Sentences), encoder).clip(str(path), 1, 3)
  assert found.shape == (WIDTH,)
  assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)
  whole = PictureQueries(opened(Sentences), encoder).clip(str(path), 0, 4)
  assert 0.5 < found @ whole < 0.9999


def test_a_trained_model_encodes_a_clip_as_a_video():
  rng = np.random.default_rng(0)
  queries = PictureQueries(opened(Plain), Embedded())
  # `Plain` takes features for tokens.
  for count in (1, 4, 6):
    features = rng.standard_normal((count, WIDTH))
    expected = unit(unit(features).mean(axis=0))
    np.testing.assert_allclose(queries.encoded(features), expected, atol=1e-4)
  assert queries.encoded(rng.standard_normal((50, WIDTH))).shape == (WIDTH,)


def test_what_cannot_work_is_refused():
  with pytest.raises(UserError, match='Wordy compares the words of a query'):
    PictureQueries(opened(Wordy), Embedded())
  with pytest.raises(UserError, match='of a picture, but the videos of the'):
    PictureQueries(opened(Plain, visual_width=7), Embedded())


def test_the_mean_of_opposite_vectors_is_zero():
  found = mean_direction([np.array([1.0, 0]), np.array([-2.0, 0])])
  np.testing.assert_array_equal(found, [0, 0])
