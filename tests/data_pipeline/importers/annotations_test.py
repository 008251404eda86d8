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
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.text import TextError

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
  """Returns whether both are equal; NaN equals NaN."""
  return repr(found) == repr(expected)


@pytest.mark.parametrize('ending', ['', '.gz'])
def test_own_queries(tmp_path, ending):
  path = write(tmp_path / f'mine.train.jsonl{ending}', _QUERIES)
  first, second = read_annotations(path)
  assert first == Annotated(
    'a', 'A dog runs.', ('v', 'w'), (1.0, 2.5), 9.0, 'val'
  )
  # The name of a user's file does not determine its split.
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
    ({'query': 'a', 'text': 3, 'video': 'v'}, '3 is not a sentence'),
    ({'query': 'a', 'text': 'x', 'videos': []}, 'names no video'),
    ({'query': 'a', 'text': 'x', 'videos': 'v'}, 'not a list'),
    ({'query': 'a', 'text': 'x', 'videos': ['v', 'v']}, 'names a video twice'),
    ({'query': 'a', 'text': 'x', 'videos': [None]}, 'the video is None'),
    ({'query': '', 'text': 'x', 'video': 'v'}, 'the query is empty'),
    ({'text': 'x', 'video': 'v'}, '"query", the id, is missing'),
    ({'query': 'a', 'text': 'x', 'video': 'v w'}, 'white space, "#" or "/"'),
    ({'query': 'a', 'text': 'x', 'video': 'v', 'span': [3, 1]}, '[3, 1]'),
    ({'query': 'a', 'text': 'x', 'video': 'v', 'span': [3]}, '[3] is not'),
    ({'query': 'a', 'text': 'x', 'video': 'v', 'duration': 0}, 'duration 0'),
    ({'query': 'a', 'text': 'x', 'video': 'v', 'split': 'dev'}, "'dev'"),
    (
      {'id': 'v', 'captions': ['x', 'y'], 'timestamps': [[0, 1]]},
      '2 captions but 1 timestamps',
    ),
    ({'id': 'v', 'captions': 'x'}, 'not a list'),
    ({'captions': ['x']}, '"id" and "file" are missing'),
    ({'desc': 'A man.', 'desc_id': 5}, "names no video for the query '5'"),
    ({'vid': 'v', 'query': 'x', 'relevant_windows': [1]}, '1 is not'),
    ({'query': 7, 'text': 'again', 'video': 'v'}, "repeats the query '7'"),
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
    ('mine.xml', 'a,b', 'its form is not known'),
    ('mine.jsonl', '\n', 'has no annotated sentence'),
    ('mine.json', '[]', r'is not \{video'),
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
  with pytest.raises(TextError, match='cannot be unpacked'):
    read_annotations(path)


def test_ids_of_files():
  assert id_of_file('a/b/My Dog #1.tar.mp4') == 'My_Dog_1.tar'
  assert id_of_file('plain') == 'plain'
  assert not id_problem('v_-x.y_60.0')
  # Ids are composed, and bytes that are not text are replaced.
  assert id_of_file('x/cafe\u0301.mp4') == 'caf\u00e9'
  assert id_of_file('caf\udce9 1.mp4') == 'caf__1'
  for name in ('', '.', '..', 'a b', 'a#b', 'a/b', 'a\tb', '\u200b', 'a\0'):
    assert id_problem(name), name
  assert 'not text' in id_problem('caf\udce9')


_FILES = {
  'mine.jsonl': [{'query': 'q', 'text': '%s', 'video': 'v'}],
  'videos.jsonl': [{'id': 'v', 'captions': ['%s']}],
  'tvr_val_release.jsonl': [{**_TVR, 'desc': '%s'}],
  'highlight_train_release.jsonl': [{**_QVHIGHLIGHTS, 'query': '%s'}],
  'train.json': [{'v': {'sentences': ['%s'], 'timestamps': [None]}}],
  'charades_sta_train.txt': 'v 0 1##%s\n',
}


def content(name, sentence):
  """Returns a file with one sentence, unescaped."""
  rows = _FILES[name]
  text = rows if isinstance(rows, str) else '\n'.join(map(json.dumps, rows))
  return text.replace('%s', sentence)


@pytest.mark.parametrize('ending', ['', '.gz'])
@pytest.mark.parametrize('name', _FILES)
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_marks_and_separators_of_unicode(tmp_path, name, mark, ending):
  """Byte order marks are not text, and U+2028 and U+0085 do not end a row."""
  odd = 'a\u2028man\u0085and\x0ca dog'
  if name != 'charades_sta_train.txt':
    odd = odd.replace('\x0c', '\u2029')  # JSON has no raw control characters
  path = write(tmp_path / (name + ending), mark + content(name, odd))
  (found,) = read_annotations(path)
  assert found.text == 'a man and a dog'
  assert found.videos[0] in ('v', 'v_60.0_210.0')


def test_marks_of_files_that_were_joined(tmp_path):
  first, second = map(json.dumps, _QUERIES)
  path = write(tmp_path / 'mine.jsonl', f'\ufeff{first}\r\n\ufeff{second}\r\n')
  assert [item.query_id for item in read_annotations(path)] == ['a', '7']


@pytest.mark.parametrize('name', _FILES)
def test_texts_are_composed(tmp_path, name):
  path = write(tmp_path / name, content(name, 'cafe\u0301'))
  assert read_annotations(path)[0].text == 'caf\u00e9'


@pytest.mark.parametrize('name', list(_FILES)[:5])
def test_half_a_character_is_a_bad_row(tmp_path, name):
  path = write(tmp_path / name, content(name, r'happy \ud83d'))
  with pytest.raises(UserError) as caught:
    read_annotations(path)
  assert name in str(caught.value)
  assert r'holds \ud83d, which is half of a character' in str(caught.value)
  str(caught.value).encode()


@pytest.mark.parametrize(
  'row',
  [
    {'query': 'x\ud83d', 'text': 'a', 'video': 'v'},
    {'query': 'x', 'text': 'a', 'video': 'v\ud83d'},
    {'id': 'v\ud83d', 'captions': ['a']},
    {'file': 'v\ud83d.mp4', 'captions': ['a']},
    {**_QVHIGHLIGHTS, 'qid': 'x\ud83d'},
    {**_TVR, 'vid_name': 'v\ud83d'},
    {'v\ud83d': 1},
  ],
)
def test_half_a_character_in_ids(tmp_path, row):
  path = write(tmp_path / 'mine.jsonl', [*_QUERIES, row])
  bad = []
  assert len(read_annotations(path, bad)) == 2
  ((where, reason),) = bad
  assert where == f'{path}:3'
  assert '\\ud83d' in ascii(reason)


@pytest.mark.parametrize('blank', ['\u200b', '\ufeff \u00ad', '\u3164'])
@pytest.mark.parametrize('name', _FILES)
def test_invisible_sentences_are_no_text(tmp_path, name, blank):
  path = write(tmp_path / name, content(name, blank))
  with pytest.raises(DataError, match='no text'):
    read_annotations(path)


def test_bytes_that_are_not_utf8_are_a_bad_row(tmp_path):
  rows = [json.dumps(row).encode() for row in _QUERIES]
  path = tmp_path / 'mine.jsonl'
  path.write_bytes(b'\n'.join([rows[0], b'{"query": "caf\xe9"}', rows[1]]))
  with pytest.raises(DataError, match=r'mine\.jsonl:2 holds the bytes e9'):
    read_annotations(path)
  bad = []
  assert len(read_annotations(path, bad)) == 2
  assert [where for where, _ in bad] == [f'{path}:2']
  path.write_bytes(b'\n'.join(rows).decode().encode('utf-16'))
  with pytest.raises(TextError, match='is UTF-16 text'):
    read_annotations(path, bad)


def test_deeply_nested_rows_are_bad(tmp_path):
  deep = '[' * 100_000
  path = write(tmp_path / 'mine.jsonl', deep)
  with pytest.raises(DataError, match=r'mine\.jsonl:1 .*too deeply'):
    read_annotations(path)
  path = write(tmp_path / 'train.json', deep)
  with pytest.raises(UserError, match=r'train\.json nests'):
    read_annotations(path)


_NULLS = [
  (_QUERIES[0], 'span'),
  (_QUERIES[0], 'duration'),
  (_QUERIES[0], 'split'),
  ({**_QUERIES[1], 'videos': None}, 'videos'),
  ({**_QUERIES[0], 'video': None}, 'video'),
  (_VIDEOS[0], 'timestamps'),
  (_VIDEOS[0], 'duration'),
  (_VIDEOS[0], 'split'),
  ({**_VIDEOS[0], 'id': None}, 'id'),
  (_VIDEOS[1], 'file'),
  (_TVR, 'ts'),
  (_TVR, 'duration'),
  (_TVR, 'desc_id'),
  ({**_TVR, 'vid_name': None, 'vid': 'v'}, 'vid_name'),
  (_QVHIGHLIGHTS, 'qid'),
  (_QVHIGHLIGHTS, 'duration'),
  (_QVHIGHLIGHTS, 'relevant_windows'),
  ({**_QVHIGHLIGHTS, 'captions': None, 'desc': None}, 'desc'),
  ({**_QUERIES[1], 'captions': None}, 'captions'),
]


@pytest.mark.parametrize(('row', 'key'), _NULLS)
def test_null_is_as_if_left_out(tmp_path, row, key):
  bare = {k: v for k, v in row.items() if k != key}
  without = read_annotations(write(tmp_path / 'a.train.jsonl', [bare]))
  with_null = read_annotations(
    write(tmp_path / 'b.train.jsonl', [{**row, key: None}])
  )
  assert same(with_null, without)
  assert without


def test_null_ids_are_numbered_within_their_video(tmp_path):
  rows = [
    {**_QVHIGHLIGHTS, 'vid': 'v', 'qid': qid} for qid in (5, None, 6, None)
  ]
  path = write(tmp_path / 'highlight_val_release.jsonl', rows)
  ids = [item.query_id for item in read_annotations(path)]
  assert ids == ['5', 'v#enc#1', '6', 'v#enc#3']


def test_null_captions_and_windows_are_left_out(tmp_path):
  row = {
    'id': 'v',
    'captions': ['One.', None, 'Two.'],
    'timestamps': [[0, 1], [1, 2], [2, 3]],
  }
  found = read_annotations(write(tmp_path / 'mine.jsonl', [row]))
  assert [(a.query_id, a.text, a.span) for a in found] == [
    ('v#enc#0', 'One.', (0.0, 1.0)),
    ('v#enc#1', 'Two.', (2.0, 3.0)),
  ]
  row = {**_QVHIGHLIGHTS, 'relevant_windows': [None, [4, 6]]}
  (found,) = read_annotations(write(tmp_path / 'mine.jsonl', [row]))
  assert found.span == (4, 6)
  content = {'v': {**_ACTIVITYNET['v'], 'duration': None}, 'w': None}
  content['v']['sentences'] = [None, 'Two.']
  (found,) = read_annotations(write(tmp_path / 'train.json', [content]))
  assert same(found, Annotated('v#enc#0', 'Two.', ('v',), split='train'))


@pytest.mark.parametrize(
  ('row', 'sentence'),
  [
    ({**_QVHIGHLIGHTS, 'duration': [1]}, 'the duration is [1]'),
    ({**_QVHIGHLIGHTS, 'duration': 10**400}, 'expected a number'),
    ({**_QVHIGHLIGHTS, 'duration': True}, 'the duration is True'),
    (
      {**_QVHIGHLIGHTS, 'relevant_windows': [['a', 2]]},
      "time in a span is 'a'",
    ),
    ({**_QVHIGHLIGHTS, 'relevant_windows': 3}, '"relevant_windows" is 3'),
    ({**_QVHIGHLIGHTS, 'query': 3}, '3 is not a sentence'),
    ({**_QVHIGHLIGHTS, 'qid': {}}, 'the qid is {}'),
    ({**_TVR, 'vid_name': ['v']}, "the vid_name is ['v']"),
    ({'file': ['v'], 'captions': ['x']}, "the file is ['v']"),
    ({'query': 'a', 'text': 'x', 'video': 'v', 'split': [1]}, 'the split [1]'),
    ({'query': 'a', 'text': 'x', 'video': 'v', 'span': '12'}, "'12' is not"),
    ({'query': 'a', 'text': 'x', 'video': 'v', 'span': [None, 1]}, 'None'),
    ('null', 'the row is None'),
    ('7', 'the row is 7'),
  ],
)
def test_values_of_another_kind(tmp_path, row, sentence):
  text = row if isinstance(row, str) else json.dumps(row)
  path = write(tmp_path / 'mine.jsonl', text)
  with pytest.raises(DataError) as caught:
    read_annotations(path)
  assert sentence in str(caught.value)
  assert 'Error' not in str(caught.value)


def test_two_forms_of_an_id_in_one_file_are_named(tmp_path):
  entry = {'sentences': ['a'], 'timestamps': [None]}
  path = write(tmp_path / 'a.json', [{'caf\u00e9': entry, 'cafe\u0301': entry}])
  with pytest.raises(UserError) as caught:
    read_annotations(path)
  assert r"'caf\xe9' and 'cafe\u0301'" in str(caught.value)
