"""Retrievers that need no checkpoint."""

import json

import numpy as np
import pytest

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever
from dreamprvr_jax.training_free.moments import moments
from tests.helpers.golden import load
from tests.helpers.models import apply

IDENTITY = {'kind': 'clip', 'model': 'a/b', 'weights': '12', 'visual_width': 32}


def test_facts_describe_it_whole():
  made = Retriever.free('tf_prvr', IDENTITY, beta=0.5)
  again = Retriever.from_facts(json.loads(json.dumps(made.facts)))
  assert again.facts == made.facts
  assert again.digest == made.digest
  assert made.is_free
  assert made.checkpoint == 'tf_prvr'
  assert made.stored['visual_width'] == 32


def test_digest_names_settings_and_weights_but_no_place():
  digest = lambda **more: (
    Retriever.free(
      more.pop('name', 'tf_prvr'),
      {**IDENTITY, **more.pop('encoder', {})},
      **more,
    ).digest
  )
  assert digest() == digest(encoder={'model': 'elsewhere'})
  others = [
    digest(),
    digest(encoder={'weights': '13'}),
    digest(beta=0.5),
    digest(wavelet='haar'),
    digest(name='best_frame'),
  ]
  assert len(set(others)) == len(others)


@pytest.mark.parametrize(
  ('name', 'settings', 'message'),
  [
    ('gmmformer', {}, 'best_frame or tf_prvr'),
    ('best_frame', {'beta': 0.5}, "no setting 'beta'"),
    ('tf_prvr', {'wavelet': 'morlet'}, 'morlet'),
    ('tf_prvr', {'beta': 1.0}, 'beta'),
  ],
)
def test_refused(name, settings, message):
  with pytest.raises(UserError, match=message):
    Retriever.free(name, width=8, **settings)


def test_width_is_needed():
  with pytest.raises(UserError, match='width'):
    Retriever.free('best_frame')


def test_sentence_vectors_are_single_words():
  found = Retriever.free('best_frame', width=4)
  vector = np.arange(1.0, 5)
  for given in (vector, vector[None], vector[None, None]):
    words, mask = found.words(given)
    assert words.shape == (1, 1, 4)
    assert mask.all()
  with pytest.raises(UserError, match='whole sentence'):
    found.words(np.ones((3, 4)))


@pytest.mark.parametrize('name', ['tf_prvr', 'best_frame'])
def test_scores(name):
  """Padded tokens do not count, even if all real products are negative."""
  golden = load('tf_prvr')
  retriever = Retriever.free(name, width=32)
  queries = np.concatenate([golden['queries'], -golden['queries']])
  scores = []
  for i in range(6):
    features = golden[f'A/videos/{i}'][: 4 + i]
    rows = retriever.rows(features)
    encoding = apply(
      retriever.model,
      {},
      rows['clip_tokens'],
      np.where(rows['frame_mask'][..., None], rows['frame_tokens'], 0),
      rows['frame_mask'],
      method='encode_video',
    )
    words, mask = retriever.words(queries[:, None])
    encoded = apply(retriever.model, {}, words, mask, method='encode_query')
    found = apply(retriever.model, {}, encoded, encoding, method='score').frame
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    tokens = features / np.linalg.norm(features, axis=1, keepdims=True)
    if name == 'tf_prvr':
      tokens = moments(features)[0]
    expected = (unit @ tokens.T).max(axis=1)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(encoding.frame_tokens, rows['frame_tokens'])
    scores.append(expected)
  assert np.min(scores) < 0
