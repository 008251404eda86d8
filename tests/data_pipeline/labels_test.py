"""Label files: reading good ones, refusing bad ones in one sentence."""

import gzip
import json

import numpy as np
import pytest

from data_pipeline import labels
from data_pipeline.errors import DataError
from dreamprvr_jax.text import TextError

VIDEOS = ['v_a', 'v_b', 'v_c']
QUERIES = ['v_a#enc#0', 'v_b#enc#0', 'v_b#enc#1']
SENTENCES = ['A man runs.', 'A  man runs.', 'a man runs.']
OWN = np.asarray([0, 1, 1])


def line(query='v_a#enc#0', videos=('v_a',), **more):
  return {'query_id': query, 'caption': 'Text.', 'gt_video_ids': videos} | more


def write(path, *rows):
  text = '\n'.join(
    row if isinstance(row, str) else json.dumps(row) for row in rows
  )
  path.write_text(text + '\n')
  return str(path)


@pytest.fixture
def good(tmp_path):
  return write(
    tmp_path / 'x.gt.jsonl',
    line(QUERIES[0], ['v_a', 'v_c']),
    line(QUERIES[1], ['v_b']),
    line(QUERIES[2], ['v_b', 'v_a']),
    line('v_z#enc#0', ['v_z']),
  )


def test_reads_plain_and_gzipped(tmp_path, good):
  found = labels.read_labels(good)
  assert [*found] == [*QUERIES, 'v_z#enc#0']
  assert found[QUERIES[0]].video_ids == ('v_a', 'v_c')
  packed = tmp_path / 'y.gt.jsonl.gz'
  packed.write_bytes(gzip.compress((tmp_path / 'x.gt.jsonl').read_bytes()))
  assert labels.read_labels(str(packed)) == found


def test_columns(good):
  found = labels.columns_of(labels.read_labels(good), QUERIES, VIDEOS)
  assert [mine.tolist() for mine in found] == [[0, 2], [1], [0, 1]]


def test_sentences_that_are_the_same_share_their_videos(good):
  columns = labels.columns_of(labels.read_labels(good), QUERIES, VIDEOS)
  closed = labels.close_over_sentences(columns, SENTENCES, OWN)
  # White space is ignored, case is not.
  assert [mine.tolist() for mine in closed] == [[0, 1, 2], [0, 1], [0, 1]]
  closed = labels.close_over_sentences(columns, ['a', 'b', 'c'], OWN)
  assert [c.tolist() for c in closed] == [c.tolist() for c in columns]


@pytest.mark.parametrize(
  ('rows', 'sentence'),
  [
    ([], 'has no label'),
    (['{"query_id": 1'], ':1 is not a label'),
    (['[1, 2]'], ':1 is not a label'),
    ([line(), ''.join('[' for _ in range(9))], ':2 is not a label'),
    ([line(), '', line(QUERIES[1], ['v_b'])], ':2 is not a label'),
    ([{'query_id': 'v_a#enc#0', 'caption': ''}], '"gt_video_ids" is missing'),
    ([line(videos='v_a')], 'a value that is not text'),
    ([line(videos=['v_a', 3])], 'a value that is not text'),
    ([line(videos=[])], 'empty list'),
    ([line(videos=['v_a', 'v_b', 'v_b'])], 'names a video twice'),
    ([line(videos=['v_b', 'v_a'])], "own video 'v_a' must come first"),
    ([line(), line()], ":2 labels the query 'v_a#enc#0' a second time"),
  ],
)
def test_bad_files(tmp_path, rows, sentence):
  with pytest.raises(DataError) as raised:
    labels.read_labels(write(tmp_path / 'bad.jsonl', *rows))
  assert sentence in str(raised.value)
  assert '\n' not in str(raised.value)


def test_missing_and_damaged_files(tmp_path):
  with pytest.raises(DataError, match='is missing'):
    labels.read_labels(str(tmp_path / 'none'))
  (tmp_path / 'bad.gz').write_bytes(b'\x1f\x8b nothing')
  with pytest.raises(TextError, match='cannot be unpacked'):
    labels.read_labels(str(tmp_path / 'bad.gz'))
  (tmp_path / 'odd').write_bytes(b'{}\n\xff\xff')
  with pytest.raises(TextError, match='odd:2 holds the bytes ff'):
    labels.read_labels(str(tmp_path / 'odd'))


def test_unicode_of_other_people(tmp_path):
  rows = [
    {**line('cafe\u0301#enc#0', ['cafe\u0301']), 'caption': 'a\u2028b\u0085c'}
  ]
  text = json.dumps(rows[0], ensure_ascii=False)
  path = tmp_path / 'a.jsonl'
  path.write_bytes(f'\ufeff{text}\r\n\n\n'.encode())
  found = labels.read_labels(str(path))
  assert [*found] == ['caf\u00e9#enc#0']
  assert found['caf\u00e9#enc#0'].video_ids == ('caf\u00e9',)
  assert found['caf\u00e9#enc#0'].caption == 'a\u2028b\u0085c'


@pytest.mark.parametrize(
  ('row', 'sentence'),
  [
    ('[' * 100_000, ':1 is not a label'),
    ({**line(), 'caption': 'happy \ud83d'}, 'half of a character'),
    (line(videos=['v_a', 'x\ud83d']), 'half of a character'),
    ({**line(), 'caption': None}, '"caption" is missing'),
    ({**line(), 'caption': 3}, '3 is not a sentence'),
    (line(videos=['v_a', 'cafe\u0301', 'caf\u00e9']), 'names a video twice'),
  ],
)
def test_bad_texts(tmp_path, row, sentence):
  with pytest.raises(DataError) as raised:
    labels.read_labels(write(tmp_path / 'bad.jsonl', row))
  assert sentence in str(raised.value)


def test_queries_without_label_are_named(good):
  found = labels.read_labels(good)
  with pytest.raises(DataError, match=r'1 of 2 queries have no label: v_c#0'):
    labels.columns_of(found, [QUERIES[0], 'v_c#0'], VIDEOS)


def test_unknown_videos_are_named(good):
  found = labels.read_labels(good)
  with pytest.raises(DataError, match=r'1 labels name.* v_c of v_a#enc#0'):
    labels.columns_of(found, QUERIES, VIDEOS[:2])
