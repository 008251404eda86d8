"""Sentences become words in one way; a text without words is refused."""

import unicodedata

import numpy as np
import pytest

from dreamprvr_jax.archive.encoders import build
from dreamprvr_jax.cli import text_queries
from dreamprvr_jax.errors import UserError


class Meaning:
  """An encoder that also reads signs."""

  name, semantic = 'meaning', True

  def words(self, text):
    return np.ones((len(text.split()) if text != 'nothing' else 0, 4))


def test_accents_may_be_composed_or_not():
  encoder, text = build('embedded'), 'un caf\u00e9 rouge'
  found = [
    text_queries.encode(encoder, unicodedata.normalize(form, text), 'x')
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
    text_queries.encode(build('embedded'), text, '--query')


def test_signs_may_mean_something_to_an_encoder():
  assert len(text_queries.encode(Meaning(), '?! \U0001f600', 'x')) == 2
  with pytest.raises(UserError, match='has no word that the text encoder mean'):
    text_queries.encode(Meaning(), 'nothing', 'x')
