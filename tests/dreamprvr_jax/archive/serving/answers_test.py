"""Queries of a batch get the same answers as single ones."""

import jax
import numpy as np
import pytest

from dreamprvr_jax.archive.index.compaction import remove
from dreamprvr_jax.archive.serving.answers import SIZES, Answers, Query
from dreamprvr_jax.errors import UserError
from tests.helpers.serving import VIDEOS, open_index, words


@pytest.fixture(scope='module')
def index(tmp_path_factory):
  return open_index(tmp_path_factory.mktemp('index'))


def check_equal(hits, expected):
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
  found = Answers(index, words)(asked)
  for query, hits in zip(asked, found, strict=True):
    (expected,) = index.search(
      words(query.text), k=query.k, moments=query.moments
    )
    check_equal(hits, expected)


def test_more_than_there_are(index):
  (hits,) = Answers(index, words)([Query('all of them', k=100)])
  assert len(hits) == VIDEOS


def test_one_that_fails_harms_no_other(index):
  def some_words(text):
    if text == 'boom':
      raise RuntimeError('boom')
    return words(text)

  answers = Answers(index, some_words)
  found = answers([Query('a dog'), Query('boom'), Query(''), Query('a cat')])
  assert isinstance(found[1], RuntimeError)
  assert isinstance(found[2], UserError)
  check_equal(found[0], answers([Query('a dog')])[0])
  check_equal(found[3], answers([Query('a cat')])[0])
  assert all(
    isinstance(x, Exception) for x in answers([Query(''), Query('boom')])
  )


def test_nothing_is_compiled_once_it_is_warm(index, caplog):
  answers = Answers(index, words)
  with jax.log_compiles():
    done = list(answers.warm_up())
    assert done[0] == 'the text encoder'
    assert len(done) == 1 + 2 * len(SIZES)
    assert 'Compiling' in caplog.text
    caplog.clear()
    for count in range(1, SIZES[-1] + 1, 3):
      answers([Query(f'query {i}', k=1 + 9 * i % 100) for i in range(count)])
  assert 'Compiling' not in caplog.text


def test_an_empty_index_is_refused(tmp_path):
  place = open_index(tmp_path).store.directory
  remove(place, [f'v{i}' for i in range(VIDEOS)])
  with pytest.raises(UserError, match='has no videos'):
    Answers(open_index(tmp_path), words)
