"""Tests of the values in users' rows."""

import math

import pytest

from data_pipeline import rows
from dreamprvr_jax.errors import UserError


def test_nulls_are_left_out():
  assert rows.parse('{"a": null, "b": 0, "c": [null]}') == {'b': 0, 'c': [None]}


@pytest.mark.parametrize(
  ('value', 'name'),
  [('a', 'a'), (7, '7'), (7.0, '7'), ('cafe\u0301', 'caf\u00e9'), (' b', ' b')],
)
def test_names(value, name):
  assert rows.name(value, 'id') == name


@pytest.mark.parametrize(
  'value', ['', '\u200b', None, True, 1.5, math.nan, [], {}, 'x\ud83d']
)
def test_no_names(value):
  with pytest.raises(UserError, match='the id '):
    rows.name(value, 'id')


@pytest.mark.parametrize(
  ('value', 'seconds'), [(3, 3.0), ('2.5', 2.5), (None, math.nan)]
)
def test_seconds(value, seconds):
  assert rows.seconds(value) == pytest.approx(seconds, nan_ok=True)


@pytest.mark.parametrize(
  'value', [0, -1, 'x', '', math.inf, True, [1], {}, 10**400]
)
def test_no_seconds(value):
  with pytest.raises(rows.RowError, match='the duration'):
    rows.seconds(value)


def test_spans():
  assert rows.span([1, '2.5']) == (1, 2.5)
  assert rows.span([3, 1]) == (3, 1)
  assert rows.span(None) is rows.span([None, None]) is rows.NO_SPAN


@pytest.mark.parametrize(
  'value',
  [[], [1], [1, 2, 3], [1, None], [1, math.nan], '12', 3, {'a': 1}, [[1], 2]],
)
def test_no_spans(value):
  with pytest.raises(rows.RowError):
    rows.span(value)


def test_what_is_shown_is_short():
  deep = []
  for _ in range(100_000):
    deep = [deep]
  for value in (deep, 'x' * 10_000, list(range(10_000)), 10**1000):
    assert len(rows.shown(value)) < 100
