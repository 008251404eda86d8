"""Label files: what is read, and what is refused in one sentence."""

import gzip
import json

import numpy as np
import pytest

from data_pipeline import labels
from data_pipeline.errors import DataError

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
  # White space does not count, case does.
  assert [mine.tolist() for mine in closed] == [[0, 1, 2], [0, 1], [0, 1]]
  closed = labels.close_over_sentences(columns, ['a', 'b', 'c'], OWN)
  assert [c.tolist() for c in closed] == [c.tolist() for c in columns]


@pytest.mark.parametrize(
  ('rows', 'sentence'),
  [
    ([], 'holds no label'),
    (['{"query_id": 1'], ':1 is not a label'),
    (['[1, 2]'], ':1 is not a label'),
    ([line(), ''.join('[' for _ in range(9))], ':2 is not a label'),
    ([line(), '', line(QUERIES[1], ['v_b'])], ':2 is not a label'),
    ([{'query_id': 'v_a#enc#0', 'caption': ''}], "KeyError: 'gt_video_ids'"),
    ([line(videos='v_a')], 'something else than text'),
    ([line(videos=['v_a', 3])], 'something else than text'),
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
  with pytest.raises(DataError, match='cannot be read'):
    labels.read_labels(str(tmp_path / 'bad.gz'))
  (tmp_path / 'odd').write_bytes(b'\xff\xff')
  with pytest.raises(DataError, match='cannot be read'):
    labels.read_labels(str(tmp_path / 'odd'))


def test_queries_without_label_are_named(good):
  found = labels.read_labels(good)
  with pytest.raises(DataError, match=r'1 of 2 queries have no label: v_c#0'):
    labels.columns_of(found, [QUERIES[0], 'v_c#0'], VIDEOS)


def test_unknown_videos_are_named(good):
  found = labels.read_labels(good)
  with pytest.raises(DataError, match=r'1 labels name.* v_c of v_a#enc#0'):
    labels.columns_of(found, QUERIES, VIDEOS[:2])
