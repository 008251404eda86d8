"""Tests of reading annotations of every form."""

import gzip
import json
import math

import pytest

from data_pipeline.errors import DataError
from data_pipeline.importers.annotations import (
  Annotated,
  id_of_file,
  id_problem,
  read_annotations,
)

_QUERIES = [
  {
    'query': 'a',
    'text': ' A  dog\nruns. ',
    'videos': ['v', 'w'],
    'span': [1, 2.5],
    'duration': 9,
    'split': 'val',
  },
  {'query': 7, 'text': 'It stops.', 'video': 'w'},
]
_VIDEOS = [
  {
    'file': 'clips/my dog #1.mp4',
    'captions': ['One.', 'Two.'],
    'timestamps': [[0, 1], None],
    'duration': 3,
    'split': 'test',
  },
  {'id': 'w', 'captions': ['Three.'], 'file': 'other.mp4'},
  {'id': 'x', 'captions': []},
]
_TVR = {
  'vid_name': 'v',
  'ts': [2, 1],
  'duration': 4,
  'desc': 'A man.',
  'desc_id': 12,
}
_QVHIGHLIGHTS = {
  'vid': 'v_60.0_210.0',
  'qid': 3,
  'query': 'A man.',
  'relevant_windows': [[4, 6], [0, 2]],
  'duration': 150,
}
_ACTIVITYNET = {
  'v': {
    'duration': 5.5,
    'timestamps': [[0, 1], None],
    'sentences': [' One.', 'Two.'],
  }
}


def write(path, rows):
  text = rows if isinstance(rows, str) else '\n'.join(map(json.dumps, rows))
  raw = text.encode()
  path.write_bytes(gzip.compress(raw) if path.suffix == '.gz' else raw)
  return path


def same(found, expected):
  """Equal, with nan for nan."""
  return repr(found) == repr(expected)


@pytest.mark.parametrize('ending', ['', '.gz'])
def test_own_queries(tmp_path, ending):
  path = write(tmp_path / f'mine.train.jsonl{ending}', _QUERIES)
  first, second = read_annotations(path)
  assert first == Annotated(
    'a', 'A dog runs.', ('v', 'w'), (1.0, 2.5), 9.0, 'val'
  )
  # An own file's name says nothing about its split.
  assert same(second, Annotated('7', 'It stops.', ('w',)))


@pytest.mark.parametrize('ending', ['', '.gz'])
def test_own_videos(tmp_path, ending):
  path = write(tmp_path / f'mine.jsonl{ending}', _VIDEOS)
  nans = (math.nan, math.nan)
  assert same(
    read_annotations(path),
    [
      Annotated(
        'my_dog_1#enc#0', 'One.', ('my_dog_1',), (0.0, 1.0), 3.0, 'test'
      ),
      Annotated('my_dog_1#enc#1', 'Two.', ('my_dog_1',), nans, 3.0, 'test'),
      Annotated('w#enc#0', 'Three.', ('w',)),
    ],
  )


@pytest.mark.parametrize('ending', ['', '.gz'])
@pytest.mark.parametrize(
  ('name', 'rows', 'expected'),
  [
    (
      'tvr_val_release.jsonl',
      [_TVR],
      Annotated('12', 'A man.', ('v',), (1.0, 2.0), 4.0, 'val'),
    ),
    (
      'highlight_train_release.jsonl',
      [_QVHIGHLIGHTS],
      Annotated('3', 'A man.', ('v_60.0_210.0',), (0.0, 6.0), 150.0, 'train'),
    ),
    (
      'val_1.json',
      [_ACTIVITYNET],
      Annotated('v#enc#0', 'One.', ('v',), (0.0, 1.0), 5.5, 'val'),
    ),
    (
      'charades_sta_test.txt',
      'v 3.0 1.5##a man.\nw 0 1##a dog.\n',
      Annotated('v#enc#0', 'a man.', ('v',), (1.5, 3.0), math.nan, 'test'),
    ),
  ],
)
def test_public_files(tmp_path, ending, name, rows, expected):
  path = write(tmp_path / (name + ending), rows)
  assert same(read_annotations(path)[0], expected)


def test_public_files_number_the_sentences_of_a_video(tmp_path):
  path = write(
    tmp_path / 'charades_sta_test.txt', 'v 0 1##a\nw 0 1##b\nv 0 1##c'
  )
  ids = [item.query_id for item in read_annotations(path)]
  assert ids == ['v#enc#0', 'w#enc#0', 'v#enc#1']


def test_a_null_span_is_none(tmp_path):
  path = write(tmp_path / 'train.json', [_ACTIVITYNET])
  assert math.isnan(read_annotations(path)[1].span[0])


def test_durations_of_charades_stand_beside_it(tmp_path):
  path = write(tmp_path / 'charades_sta_test.txt', 'v 0 1##a man.\n')
  write(
    tmp_path / 'charades_test_release.jsonl',
    [{'vid': 'v', 'duration': 12.5, 'query': 'a man.'}],
  )
  assert read_annotations(path)[0].duration == 12.5


@pytest.mark.parametrize(
  ('row', 'sentence'),
  [
    ('{"query": "a", ', 'is not a row of annotations'),
    ('[1, 2]', 'is not a row of annotations'),
    ('{"question": "a"}', 'found the keys question'),
    ({'query': 'a', 'text': ' ', 'video': 'v'}, 'no text'),
    ({'query': 'a', 'text': 3, 'video': 'v'}, "'3' is not a sentence"),
    ({'query': 'a', 'text': 'x', 'videos': []}, 'names no video'),
    ({'query': 'a', 'text': 'x', 'videos': 'v'}, 'not a list'),
    ({'query': 'a', 'text': 'x', 'videos': ['v', 'v']}, 'names a video twice'),
    ({'query': 'a', 'text': 'x', 'videos': [None]}, 'the video is None'),
    ({'query': '', 'text': 'x', 'video': 'v'}, 'the query is empty'),
    ({'text': 'x', 'video': 'v'}, "KeyError: 'query'"),
    ({'query': 'a', 'text': 'x', 'video': 'v w'}, 'white space, "#" or "/"'),
    ({'query': 'a', 'text': 'x', 'video': 'v', 'span': [3, 1]}, '[3, 1]'),
    ({'query': 'a', 'text': 'x', 'video': 'v', 'span': [3]}, 'unpack'),
    ({'query': 'a', 'text': 'x', 'video': 'v', 'duration': 0}, 'duration 0'),
    ({'query': 'a', 'text': 'x', 'video': 'v', 'split': 'dev'}, "'dev'"),
    (
      {'id': 'v', 'captions': ['x', 'y'], 'timestamps': [[0, 1]]},
      '2 captions but 1 timestamps',
    ),
    ({'id': 'v', 'captions': 'x'}, 'not a list'),
    ({'captions': ['x']}, "KeyError: 'file'"),
    ({'desc': 'A man.', 'desc_id': 5}, "names no video for the query '5'"),
    ({'vid': 'v', 'query': 'x', 'relevant_windows': [1]}, 'TypeError'),
    ({'query': 7, 'text': 'again', 'video': 'v'}, "the query '7' again"),
  ],
)
def test_bad_rows(tmp_path, row, sentence):
  row = row if isinstance(row, str) else json.dumps(row)
  good = '\n'.join(map(json.dumps, _QUERIES))
  path = write(tmp_path / 'mine.jsonl', f'{good}\n{row}\n')
  with pytest.raises(DataError, match=r'mine\.jsonl:3') as caught:
    read_annotations(path)
  assert sentence in str(caught.value)
  bad = []
  assert len(read_annotations(path, bad)) == 2
  assert [where for where, _ in bad] == [f'{path}:3']
  assert sentence in bad[0][1]


@pytest.mark.parametrize(
  ('name', 'content', 'sentence'),
  [
    ('none.jsonl', None, 'is missing'),
    ('mine.csv', 'a,b', 'its form is not known'),
    ('mine.jsonl', '\n', 'holds no annotated sentence'),
    ('mine.json', '[]', 'does not hold'),
    ('mine.json.gz', None, 'is missing'),
    ('list.txt', 'video1\n', 'list.txt:1'),
  ],
)
def test_bad_files(tmp_path, name, content, sentence):
  if content is not None:
    (tmp_path / name).write_text(content)
  with pytest.raises(DataError, match=sentence):
    read_annotations(tmp_path / name)


def test_damaged_gzip(tmp_path):
  path = tmp_path / 'mine.jsonl.gz'
  path.write_bytes(gzip.compress(b'x' * 99)[:-9])
  with pytest.raises(DataError, match='cannot be read'):
    read_annotations(path)


def test_ids_of_files():
  assert id_of_file('a/b/My Dog #1.tar.mp4') == 'My_Dog_1.tar'
  assert id_of_file('plain') == 'plain'
  assert not id_problem('v_-x.y_60.0')
  for name in ('', '.', '..', 'a b', 'a#b', 'a/b', 'a\tb'):
    assert id_problem(name), name
