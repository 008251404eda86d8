"""Rows of CSV files, and annotations in them."""

import gzip
import math

import pytest

from data_pipeline.csv_rows import is_table, read_table
from data_pipeline.errors import DataError
from data_pipeline.importers.annotations import read_annotations
from dreamprvr_jax.errors import UserError


def written(tmp_path, content, name='t.csv'):
  path = tmp_path / name
  path.write_bytes(content.encode() if isinstance(content, str) else content)
  return path


@pytest.mark.parametrize('separator', [',', ';', '\t'])
def test_the_separator_is_found(tmp_path, separator):
  lines = ['Video|Caption', 'a|"one | two"', '', '|', 'b|three']
  content = '\n'.join(lines).replace('|', separator)
  path = written(tmp_path, content)
  assert list(read_table(path)) == [
    (2, {'video': 'a', 'text': f'one {separator} two'}),
    (5, {'video': 'b', 'text': 'three'}),
  ]


def test_files_of_spreadsheets(tmp_path):
  content = '\ufefffilename,description\r\na.mp4,"two\r\nlines"\r\n'
  path = written(tmp_path, gzip.compress(content.encode()), 't.csv.gz')
  assert is_table(path)
  assert list(read_table(path)) == [
    (3, {'file': 'a.mp4', 'text': 'two\r\nlines'})
  ]


@pytest.mark.parametrize(
  ('content', 'problem'),
  [
    ('', 'is empty; give a table'),
    ('a,b\n1,2,3\n', ':2 has 3 cells where the first row names 2 columns'),
    ('caption,desc\n', "names the column 'text' twice"),
    ('a,b\n"1,2\n', 'is no row of CSV'),
    (b'a\ncaf\xe9\n', 'holds the bytes e9'),
  ],
)
def test_what_is_no_table(tmp_path, content, problem):
  with pytest.raises(UserError, match=problem):
    list(read_table(written(tmp_path, content)))


def test_annotations_of_a_table(tmp_path):
  path = written(
    tmp_path,
    'video,file,caption,start,end,duration,split\n'
    'v 1.mp4,,,,,,\n,v 1.mp4,a dog,0.5,2,9.5,val\n,v 1.mp4,a cat,,,,\n',
  )
  bad = []
  first, second = read_annotations(path, bad)
  assert first.query_id == 'v_1#enc#0'
  assert (first.videos, first.text) == (('v_1',), 'a dog')
  assert (first.span, first.duration, first.split) == ((0.5, 2), 9.5, 'val')
  assert second.query_id == 'v_1#enc#1'
  assert math.isnan(second.span[0])
  ((where, problem),) = bad
  assert where.endswith('t.csv:2')
  assert 'found the cells video, expected "caption"' in problem


@pytest.mark.parametrize(
  ('row', 'problem'),
  [
    (',a dog,,', '"id" and "file" are missing'),
    ('v,a dog,1,', 'found "start" alone'),
    ('v,a dog,2,1', "'2', '1'. is not .start, end. in seconds"),
    ('v,a dog,x,1', "'x', expected a number"),
  ],
)
def test_bad_rows_are_named(tmp_path, row, problem):
  path = written(tmp_path, f'id,caption,start,end\n{row}\n')
  with pytest.raises(DataError, match=f't.csv:2 .*{problem}'):
    read_annotations(path)
