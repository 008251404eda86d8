"""What is known of an index's videos, and conditions on it."""

import datetime
import math

import numpy as np
import pytest

from dreamprvr_jax.archive.search.catalogue import Catalogue, File
from dreamprvr_jax.archive.search.filters import Filters
from dreamprvr_jax.errors import UserError


def stamp(*date):
  return int(datetime.datetime(*date).astimezone().timestamp() * 1e9)


def source(name, file, date, seconds=None, **more):
  return {
    'id': name,
    'file': file,
    'root': '/v',
    'size': 1,
    'mtime_ns': stamp(*date),
    'duration': seconds,
    **more,
  }


ROWS = {'a': [0], '2023/b': [1], '2023/x/c': [2, 3], 'plain': [4], 'd/e': [5]}


class Store:
  """Five videos; the third has two rows, and two have no file."""

  def __len__(self):
    return 6

  def sources(self):
    return [
      source('a', '/v/a.mp4', (2022, 12, 31, 23, 59), 10.0, hash='one'),
      source('2023/b', '/v/2023/B\u0301.mp4', (2023, 1, 1), 20.0),
      source('2023/x/c', '/v/2023/x/caf\udce9.mov', (2023, 6, 5)),
    ]

  def rows_of(self):
    return {name: np.array(rows) for name, rows in ROWS.items()}

  def has(self, name):
    return name == 'starts'

  def read(self, name, start, stop):
    assert (start, stop) == (0, 6)
    if name == 'starts':
      return np.array([0, 0, 0, 50.0, 0, 0])
    return np.array([10, 20, 60, 45.0, math.nan, 7])


@pytest.fixture(scope='module')
def catalogue():
  return Catalogue(Store())


def found(catalogue, **conditions):
  met = Filters(**conditions).met(catalogue)
  return {name for name, ok in zip(catalogue.ids, met, strict=True) if ok}


def test_files(catalogue):
  assert len(catalogue) == 5
  assert catalogue.file('2023/b') == File(
    '/v/2023/B\u0301.mp4', '2023', '\u0042\u0301.mp4', '2023-01-01'
  )
  assert catalogue.file('2023/x/c').title == 'caf%E9.mov'
  assert catalogue.file('2023/x/c').path == '/v/2023/x/caf\udce9.mov'
  assert catalogue.file('a').folder == ''
  assert catalogue.file('plain') == File('', '', 'plain', '')
  assert catalogue.file('d/e') == File('', 'd', 'e', '')
  assert (catalogue.content('a'), catalogue.content('plain')) == ('one', '')


def test_lengths_are_those_of_whole_videos(catalogue):
  np.testing.assert_array_equal(catalogue.seconds, [10, 20, 95, math.nan, 7])


@pytest.mark.parametrize(
  ('folder', 'ids'),
  [
    ('2023', {'2023/b', '2023/x/c'}),
    ('2023/', {'2023/b', '2023/x/c'}),
    ('2023/x', {'2023/x/c'}),
    ('202', set()),
    ('/v', {'a', '2023/b', '2023/x/c'}),
    ('/v/2023/x/', {'2023/x/c'}),
    ('d', {'d/e'}),
  ],
)
def test_folders(catalogue, folder, ids):
  assert found(catalogue, folder=folder) == ids


def test_dates(catalogue):
  assert found(catalogue, after='2023') == {'2023/b', '2023/x/c'}
  assert found(catalogue, before='2023-01-01') == {'a'}
  assert found(catalogue, after='2023-01', before='2023-6-5') == {'2023/b'}
  assert found(catalogue, after='2023-06-05') == {'2023/x/c'}


def test_lengths(catalogue):
  assert found(catalogue, min_seconds=20) == {'2023/b', '2023/x/c'}
  assert found(catalogue, max_seconds=10) == {'a', 'd/e'}
  assert found(catalogue, min_seconds=8, max_seconds=25, folder='2023') == {
    '2023/b'
  }


def test_no_condition(catalogue):
  assert not Filters()
  assert Filters(folder='x')
  assert len(found(catalogue)) == 5


def test_rows(catalogue):
  met = Filters(folder='2023').met(catalogue)
  assert catalogue.rows(met).tolist() == [False, True, True, True, False, False]


@pytest.mark.parametrize(
  ('conditions', 'problem'),
  [
    ({'after': 'yesterday'}, 'after=yesterday: this is no date; write YYYY'),
    ({'before': '2023-02-30'}, 'before=2023-02-30: this is no date'),
    ({'after': '2024', 'before': '2023'}, 'from 2024 on and before 2023'),
    ({'min_seconds': -1}, 'no video lasts at least -1'),
    ({'min_seconds': 9, 'max_seconds': 8}, 'at least 9 and at most 8'),
    ({'min_seconds': math.nan}, 'at least nan'),
  ],
)
def test_impossible_conditions(conditions, problem):
  with pytest.raises(UserError, match=problem):
    Filters(**conditions)


def test_a_year_that_no_calendar_has():
  class Odd(Store):
    def sources(self):
      return [{**source('a', '/v/a.mp4', (2022, 1, 1)), 'mtime_ns': 10**21}]

  found = Catalogue(Odd())
  assert found.file('a') == File('/v/a.mp4', '', 'a.mp4', '')
  assert Filters(after='2023').met(found).tolist() == [True] + [False] * 4
