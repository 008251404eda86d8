"""Sentences become words in one way; a text without words is refused."""

import unicodedata

import numpy as np
import pytest

from dreamprvr_jax.archive.encoders import build
from dreamprvr_jax.archive.search.text_queries import (
  MAX_CHARACTERS,
  TextQueries,
  open_encoder,
)
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever
from tests.helpers.searching import retriever


class Meaning:
  """An encoder that also reads signs."""

  name, semantic, shared = 'meaning', True, True

  def words(self, text):
    return np.ones((len(text.split()) if text != 'nothing' else 0, 4))

  def sentence(self, text):
    return np.full(4, len(text), np.float32)


def read(encoder, text, where='x', words=30):
  found = retriever(config={'data': {'max_words': words}})
  return TextQueries(found, encoder).read(text, where)


def test_accents_may_be_composed_or_not():
  encoder, text = build('embedded'), 'un caf\u00e9 rouge'
  found = [
    read(encoder, unicodedata.normalize(form, text)).features
    for form in ('NFC', 'NFD')
  ]
  assert found[0].shape == (3, encoder.text_width)
  np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
  ('text', 'reason'),
  [
    ('', '--query: the query is empty'),
    ('\u200b \ufeff', '--query: the query is empty'),
    ('a \udcff', r'--query holds \\udcff'),
    ('?!', r"--query: '\?!' has no word that the text encoder embedded reads"),
    ('\U0001f600', 'has no word that the text encoder embedded reads'),
  ],
)
def test_what_is_no_query(text, reason):
  with pytest.raises(UserError, match=reason):
    read(build('embedded'), text, '--query')


def test_signs_may_mean_something_to_an_encoder():
  assert len(read(Meaning(), '?! \U0001f600').features) == 2
  with pytest.raises(UserError, match='has no word that the text encoder mean'):
    read(Meaning(), 'nothing')


def test_a_long_query_is_cut_with_a_notice():
  assert not read(Meaning(), 'a dog').notice
  text = 'dog ' * MAX_CHARACTERS
  found = read(Meaning(), text, words=MAX_CHARACTERS)
  assert found.text == ('dog ' * (MAX_CHARACTERS // 4)).strip()
  assert len(found.features) == MAX_CHARACTERS // 4
  assert found.notice == (
    'a query has 3,999 characters, and the first 999 are read'
  )
  assert len(read(Meaning(), 'x' * 2000).text) == MAX_CHARACTERS


def test_words_that_a_model_does_not_read_are_told():
  found = read(Meaning(), 'one two three', words=2)
  assert found.notice == 'a query has 3 words, and the model reads the first 2'
  assert found.text == 'one two three'


def test_the_sentence_vector_is_the_only_word():
  found = Retriever.free('best_frame', width=4)
  features = TextQueries(found, Meaning()).read('a dog').features
  np.testing.assert_array_equal(features, np.full((1, 4), 5))
  words, mask = found.words(features)
  assert words.shape == (1, 1, 4)
  assert mask.all()


def test_pictures_and_words_need_one_space():
  class Apart(Meaning):
    shared = False

  free = Retriever.free('best_frame', width=4)
  with pytest.raises(UserError, match='search it by --image=FILE or --clip'):
    TextQueries(free, Apart())
  TextQueries(retriever(), Apart())


def test_the_encoder_of_another_width_is_refused():
  identity = build('embedded').identity
  free = Retriever.free('best_frame', identity)
  assert open_encoder(free).name == 'embedded'
  with pytest.raises(UserError, match='makes word features of width 256, but'):
    open_encoder(retriever(), 'embedded')
  other = Retriever.free('best_frame', width=4)
  with pytest.raises(UserError, match='makes frame features of width 288, but'):
    open_encoder(other, 'embedded')
  with pytest.raises(UserError, match='does not name the text encoder'):
    open_encoder(other)
