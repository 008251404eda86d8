"""Queries of a batch get the same answers as single ones."""

import jax
import numpy as np
import pytest

from dreamprvr_jax.archive.index.compaction import remove
from dreamprvr_jax.archive.serving.answers import DEPTHS, SIZES, Query
from dreamprvr_jax.errors import UserError
from tests.helpers.searching import WIDTH
from tests.helpers.serving import VIDEOS, answers_of, open_index, words


@pytest.fixture(scope='module')
def index(tmp_path_factory):
  return open_index(tmp_path_factory.mktemp('index'))


def check_equal(answer, expected):
  hits = answer.hits
  assert [h.video_id for h in hits] == [h.video_id for h in expected]
  for hit, other in zip(hits, expected, strict=True):
    assert hit.score == pytest.approx(other.score, abs=1e-6)
    np.testing.assert_allclose(hit.timeline, other.timeline, atol=1e-6)
    assert [m.span for m in hit.moments] == [m.span for m in other.moments]


def test_a_batch_equals_single_searches(index):
  asked = [
    Query(f'sentence {i} of many', k=1 + i % 12, moments=1 + i % 3)
    for i in range(SIZES[-1] - 3)
  ]
  found = answers_of(index)(asked)
  for query, answer in zip(asked, found, strict=True):
    (expected,) = index.search(
      words(query.text), k=query.k, moments=query.moments
    )
    assert answer.text == query.text
    check_equal(answer, expected)


def test_more_than_there_are(index):
  (answer,) = answers_of(index)([Query('all of them', k=100)])
  assert len(answer.hits) == VIDEOS


def test_one_that_fails_harms_no_other(index):
  def some_words(text):
    if text == 'boom':
      raise RuntimeError('boom')
    return words(text)

  answers = answers_of(index, some_words)
  found = answers([Query('a dog'), Query('boom'), Query(''), Query('a cat')])
  assert isinstance(found[1], RuntimeError)
  assert isinstance(found[2], UserError)
  check_equal(found[0], answers([Query('a dog')])[0].hits)
  check_equal(found[3], answers([Query('a cat')])[0].hits)
  assert all(
    isinstance(x, Exception) for x in answers([Query(''), Query('boom')])
  )


def test_nothing_is_compiled_once_it_is_warm(index, caplog):
  answers = answers_of(index)
  with jax.log_compiles():
    done = list(answers.warm_up())
    assert done[0] == 'the encoder of sentences'
    assert len(done) == 1 + len(DEPTHS) * len(SIZES)
    assert 'Compiling' in caplog.text
    caplog.clear()
    for count in range(1, SIZES[-1] + 1, 3):
      answers([Query(f'query {i}', k=1 + 9 * i % 100) for i in range(count)])
  assert 'Compiling' not in caplog.text


def picture_query(picture):
  return np.full(WIDTH, picture.mean(), np.float32)


def test_pictures_and_sentences_in_one_batch(index):
  answers = answers_of(index, words, picture_query)
  assert answers.reads == ['text', 'picture']
  picture = np.full((4, 6, 3), 9, np.uint8)
  asked = [Query('a dog'), Query(picture=picture, k=4), Query('a cat')]
  found = answers(asked)
  for i in (0, 2):
    check_equal(found[i], index.search(words(asked[i].text))[0])
  query = picture_query(picture)[None]
  check_equal(found[1], index.search_encoded(query, 4)[0])
  assert found[1].text == ''


def test_an_index_for_one_kind_of_query(index):
  picture = np.zeros((4, 6, 3), np.uint8)
  only = answers_of(index, None, picture_query)
  assert only.reads == ['picture']
  assert next(only.warm_up()) == 'the encoder of pictures'
  good, bad = only([Query(picture=picture), Query('a dog')])
  assert len(good.hits) == 10
  assert 'send a picture' in str(bad)
  (bad,) = answers_of(index)([Query(picture=picture)])
  assert 'cannot be searched by pictures' in str(bad)


def test_an_empty_index_has_empty_answers(tmp_path):
  place = open_index(tmp_path).store.directory
  remove(place, [f'v{i}' for i in range(VIDEOS)])
  answers = answers_of(open_index(tmp_path))
  assert list(answers.warm_up())
  assert [answer.hits for answer in answers([Query('a dog')] * 2)] == [[], []]
