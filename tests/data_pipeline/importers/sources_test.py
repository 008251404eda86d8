"""Tests of joining features and annotations, and of the report."""

import json
import os

import numpy as np
import pytest

from data_pipeline.importers.sources import Sources

_ROWS = [
  {'query': 'a', 'text': 'One.', 'videos': ['v', 'w'], 'span': [0, 3]},
  {'query': 'b', 'text': 'Two.', 'video': 'v', 'duration': 2, 'split': 'val'},
  {'query': 'c', 'text': 'Three.', 'video': 'w', 'split': 'train'},
]


def write_rows(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


@pytest.fixture
def place(tmp_path):
  """Three matching sources."""
  write_rows(tmp_path / 'rows.jsonl', _ROWS)
  (tmp_path / 'videos').mkdir()
  for name, rows in (('v', 3), ('w', 4), ('x', 5)):
    np.save(tmp_path / f'videos/{name}.npy', np.ones((rows, 6), np.float32))
  write_queries(tmp_path)
  return tmp_path


def write_queries(place, **changes):
  arrays = {'a': np.ones((2, 7)), 'qidb': np.ones(7), 'w#enc#0': np.ones(7)}
  arrays |= changes
  arrays = {name: x for name, x in arrays.items() if x is not None}
  np.savez(place / 'words.npz', **arrays)


def opened(place, annotations='rows.jsonl'):
  return Sources(
    str(place / 'videos'),
    str(place / 'words.npz'),
    ','.join(str(place / name) for name in annotations.split(',')),
    progress=False,
  )


def test_counts(place):
  sources = opened(place)
  report = sources.report()
  assert not report.problems
  assert report.notes == ['videos that no annotation names: 1']
  facts = dict(report.facts)
  assert facts['  videos'] == '2'  # in the annotations, which come last
  assert facts['  sentences'] == '3'
  assert facts['  of several videos'] == '1'
  assert facts['  frames'] == '3 to 5, mean 4.0'
  assert facts['  words'] == '1 to 2, mean 1.3'
  assert facts['  split val'] == '1 sentences, 1 videos'
  assert facts['  no split'] == '1 sentences, 1 videos'
  assert json.loads(json.dumps(report.as_json()))['problems'] == []


def test_queries_are_found_by_three_names(place):
  sources = opened(place)
  pairs = zip(sources.annotated, sources.captions, strict=True)
  assert [sources.name_in(sources.queries, *pair) for pair in pairs] == [
    'a',
    'qidb',
    'w#enc#0',
  ]


def test_everything_that_is_wrong_is_named(place):
  bad = np.ones((4, 6))
  bad[1, 2] = np.nan
  np.save(place / 'videos/w.npy', bad)
  np.save(place / 'videos/x.npy', np.ones((4, 5)))
  np.save(place / 'videos/y z.npy', np.ones((4, 6)))
  os.remove(place / 'videos/v.npy')
  write_queries(place, qidb=None, a=np.ones((2, 7), int), extra=np.ones(7))
  write_rows(
    place / 'rows.jsonl',
    [*_ROWS, {'query': 'd', 'text': 'x', 'video': 'm'}, {'query': 'e'}],
  )
  report = opened(place).report()
  problems = dict(report.problems)
  assert list(problems) == [
    "video 'x'",
    "video 'y z'",
    "video 'w'",
    "query 'a'",
    f'{place}/rows.jsonl:5',
    "video 'v'",
    "video 'm'",
    "query 'b'",
    "query 'd'",
  ]
  assert 'width 5' in problems["video 'x'"]
  assert 'white space' in problems["video 'y z'"]
  assert 'NaN' in problems["video 'w'"]
  assert "query 'a' and 1 more" in problems["video 'v'"]
  assert 'has int64' in problems["query 'a'"]
  assert 'words.npz' in problems["query 'b'"]
  assert 'features of queries that no annotation names: 1' in report.notes
  # Without reading values, problems in them are not found.
  assert len(opened(place).report(values=False).problems) == 8


def test_a_query_stands_in_one_file(place):
  write_rows(place / 'more.jsonl', [_ROWS[0], {**_ROWS[0], 'query': 'c2'}])
  report = opened(place, 'rows.jsonl,more.jsonl').report()
  assert ("query 'a'", 'is in several annotation files') in report.problems


def test_odd_but_usable(place):
  rows = [
    {**_ROWS[0], 'split': 'train', 'duration': 2},
    {**_ROWS[1], 'split': 'val'},
    _ROWS[2],
  ]
  write_rows(place / 'rows.jsonl', rows)
  report = opened(place).report()
  assert not report.problems
  assert 'videos with sentences in several splits: 1' in report.notes
  assert 'time spans that end after their video: 1' in report.notes


def test_identity(place):
  found = opened(place).identity()
  assert found['features']['files'] == 3
  assert opened(place).identity() == found
  os.utime(place / 'videos/v.npy', (1, 1))
  other = opened(place).identity()
  assert other['features'] != found['features']
  assert other['queries'] == found['queries']
  assert Sources(str(place / 'videos')).identity()['queries']['files'] == 0
