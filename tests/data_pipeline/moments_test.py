"""Tests of time spans and durations from public annotations."""

import dataclasses
import gzip
import json

import numpy as np
import pytest

from data_pipeline.captions import Caption
from data_pipeline.errors import DataError
from data_pipeline.moments import Moments, plain
from data_pipeline.opening import open_corpus
from data_pipeline.options import DataOptions
from dreamprvr_jax.errors import UserError

_ACTIVITYNET = {
  'v': {
    'duration': 20.5,
    'timestamps': [[0.5, 3], [9, 4.25], [1, 2]],
    'sentences': [' A  man runs. ', 'He stops', 'Twice.'],
  }
}
_TVR = [
  {'vid_name': 'v', 'ts': [0.5, 3], 'duration': 20.5, 'desc': 'A man runs.'},
  {'vid_name': 'w', 'ts': [1, 2], 'duration': 7, 'desc': 'Elsewhere.'},
  {'vid_name': 'v', 'ts': [4.25, 9], 'duration': 20.5, 'desc': 'He stops.'},
]
_QVHIGHLIGHTS = [
  {'vid': 'v', 'relevant_windows': [[2, 3], [0.5, 1]], 'query': 'A man runs.'},
  {'vid': 'w', 'relevant_windows': [[1, 2]], 'query': 'Elsewhere.'},
  {'vid': 'v', 'relevant_windows': [[4.25, 9]], 'query': 'He stops.'},
]
_QVHIGHLIGHTS = [{**row, 'duration': 20.5} for row in _QVHIGHLIGHTS]
_CHARADES = 'v 0.5 3.0##a man runs.\nw 1 2##elsewhere\nv 9 4.25##he stops.\n'
_CAPTIONS = [
  Caption('v#enc#0', 'A man runs!', 1),
  Caption('v#enc#1', 'he stops.', 2),
  Caption('w#enc#0', 'something else', 3),
]


def _join(folder, **kwargs):
  options = DataOptions(str(folder), 'c', **kwargs)
  moments = Moments(options)
  return moments, *moments.join(_CAPTIONS, ['v', 'w'])


def _expect(spans, durations, of_v=20.5):
  np.testing.assert_array_equal(spans, [[0.5, 3], [4.25, 9], [np.nan, np.nan]])
  assert spans.dtype == durations.dtype == np.float64
  assert durations[0] == of_v or np.isnan(of_v)


@pytest.mark.parametrize('ending', ['', '.gz'])
@pytest.mark.parametrize('explicit', [True, False])
@pytest.mark.parametrize(
  'kind', ['activitynet', 'tvr', 'charades', 'qvhighlights']
)
def test_formats(tmp_path, ending, explicit, kind):
  folder = tmp_path / 'c'
  folder.mkdir()
  name, text = {
    'activitynet': ('val_1.json', json.dumps(_ACTIVITYNET)),
    'tvr': ('tvr_val_release.jsonl', '\n'.join(map(json.dumps, _TVR)) + '\n'),
    'charades': ('charades_sta_test.txt', _CHARADES),
    'qvhighlights': (
      'highlight_val_release.jsonl',
      '\n'.join(map(json.dumps, _QVHIGHLIGHTS)),
    ),
  }[kind]
  raw = text.encode()
  path = folder / (name + ending)
  path.write_bytes(gzip.compress(raw) if ending else raw)
  _, spans, durations = _join(tmp_path, moments=str(path) if explicit else '')
  _expect(spans, durations, np.nan if kind == 'charades' else 20.5)


def test_charades_durations_stand_in_another_file(tmp_path):
  folder = tmp_path / 'c'
  folder.mkdir()
  (folder / 'charades_sta_test.txt').write_text(_CHARADES)
  rows = [{'vid': 'v', 'duration': 12.5, 'query': 'x'}, {'vid': 'w'}]
  (folder / 'charades_test_release.jsonl').write_text(
    '\n'.join(map(json.dumps, rows))
  )
  for kwargs in ({}, {'moments': str(folder / 'charades_sta_test.txt')}):
    moments, spans, durations = _join(tmp_path, **kwargs)
    _expect(spans, durations, 12.5)
    assert np.isnan(durations[1])
    assert len(moments.files) == 2


def test_two_annotators_are_tried_in_turn(tmp_path):
  folder = tmp_path / 'c'
  folder.mkdir()
  other = {'v': {**_ACTIVITYNET['v'], 'sentences': ['X', 'y', 'z']}}
  (folder / 'val_1.json').write_text(json.dumps(other))
  (folder / 'val_2.json').write_text(json.dumps(_ACTIVITYNET))
  _, spans, durations = _join(tmp_path)
  _expect(spans, durations)


def test_a_file_without_spans_does_not_hide_another(tmp_path):
  """The test split of QVHighlights is published with and without windows."""
  folder = tmp_path / 'c'
  folder.mkdir()
  bare = [
    {**row, 'relevant_windows': []}
    if i
    else {'vid': 'v', 'query': 'A man runs'}
    for i, row in enumerate(_QVHIGHLIGHTS)
  ]
  for name, rows in (('release', bare), ('with_gt', _QVHIGHLIGHTS)):
    (folder / f'highlight_test_{name}.jsonl').write_text(
      '\n'.join(map(json.dumps, rows))
    )
  moments, spans, durations = _join(tmp_path)
  assert len(moments.files) == 2
  _expect(spans, durations)
  assert moments.span(Caption('v#enc#5', 'He stops', 1)) == (4.25, 9)


def test_numbers_may_be_off_where_the_sentence_is_unique(tmp_path):
  folder = tmp_path / 'c'
  folder.mkdir()
  (folder / 'val_1.json').write_text(json.dumps(_ACTIVITYNET))
  moments = Moments(DataOptions(str(tmp_path), 'c'))
  assert moments.span(Caption('v#enc#7', 'He stops', 1)) == (4.25, 9)
  assert moments.span(Caption('v#enc#x', 'a man runs', 1)) == (0.5, 3)
  assert np.isnan(moments.span(Caption('v#enc#1', 'Another', 1))).all()


def test_disagreement_of_named_files_is_logged(tmp_path, caplog):
  path = tmp_path / 'mine.json'
  path.write_text(json.dumps({**_ACTIVITYNET, 'w': _ACTIVITYNET['v']}))
  _join(tmp_path, moments=str(path))
  assert '1 of 3 captions differ from' in caplog.text


def test_bad_files(tmp_path, caplog):
  with pytest.raises(DataError, match='named by the option `moments`'):
    _join(tmp_path, moments=str(tmp_path / 'none.json'))
  folder = tmp_path / 'c'
  folder.mkdir()
  for name, text, message in (
    ('a.json', '[1]', r'a.json is not \{video'),
    ('a.json', '{"v": {"sentences": ["x"], "timestamps": []}}', 'is not'),
    ('a.txt', 'v 0 1 x\n', r"a.txt:1 has 'v 0 1 x' where"),
    ('a.jsonl', '\n{"ts": [1]\n', 'a.jsonl:2 is not a row'),
    ('a.jsonl', '{"vid": "v", "relevant_windows": [3]}', 'a.jsonl:1 is not'),
    ('a.json.gz', 'x', 'a.json.gz cannot be unpacked'),
    ('a.json', '[' * 100_000, 'a.json nests its JSON too deeply'),
    ('a.jsonl', '[' * 100_000, 'a.jsonl:1 is not a row .* too deeply'),
    ('a.jsonl', '{"vid": "v", "query": "x\\ud83d"}', 'a.jsonl:1 .* half'),
    ('a.json', '{"v": {"sentences": [3], "timestamps": [null]}}', '3 is not'),
    ('a.txt', 'v 0 x##a\n', "a.txt:1 has 'v 0 x##a' where"),
  ):
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
      _join(tmp_path, moments=str(folder / name))
  # A bad file that is not named explicitly is skipped.
  (folder / 'a.moments.json').write_text('[1]')
  (folder / 'train.json').write_bytes(b'{"v": "caf\xe9"}')
  _join(tmp_path)
  assert 'a file gives no time spans' in caplog.text
  assert 'train.json:1 holds the bytes e9' in caplog.text


def test_plain():
  assert plain("  It's\tA  B-c! ") == 'it s a b c'


def test_moments_reach_the_corpus(content, options, tmp_path):
  folder = content.write(tmp_path)
  rows = {
    'v_f': {
      'duration': 9.0,
      'timestamps': [[1, 2]],
      'sentences': ['sentence 0 of V_F'],
    }
  }
  (folder / 'val_1.json').write_text(json.dumps(rows))
  for storage in ('release', 'auto'):
    split = open_corpus(dataclasses.replace(options, storage=storage)).splits[
      'val'
    ]
    caption = split.caption_ids.index('v_f#enc#0')
    assert list(split.moments[caption]) == [1, 2]
    assert split.durations[split.caption_video[caption]] == 9
    assert np.isnan(split.moments).sum() == 4


@pytest.mark.parametrize('kind', ['activitynet', 'qvhighlights', 'charades'])
def test_unicode_of_other_people(tmp_path, kind):
  """These are byte order marks, separators, and ids in another normal form."""
  folder = tmp_path / 'c'
  folder.mkdir()
  entry = {'duration': 20.5, 'timestamps': [[0.5, 3]], 'sentences': ['%s']}
  row = {'vid': 'cafe\u0301', 'relevant_windows': [[0.5, 3]], 'query': '%s'}
  name, content = {
    'activitynet': ('val_1.json', json.dumps({'cafe\u0301': entry})),
    'qvhighlights': ('highlight_val_release.jsonl', json.dumps(row)),
    'charades': ('charades_sta_test.txt', 'cafe\u0301 0.5 3##%s'),
  }[kind]
  content = content.replace('%s', 'a man\u2028runs\u0085fast, cafe\u0301')
  (folder / name).write_bytes(f'\ufeff{content}\r\n'.encode())
  moments = Moments(DataOptions(str(tmp_path), 'c'))
  caption = Caption('caf\u00e9#enc#0', 'a man runs fast, caf\u00e9', 1)
  assert moments.span(caption) == (0.5, 3)


def test_nulls_are_as_if_left_out(tmp_path):
  folder = tmp_path / 'c'
  folder.mkdir()
  rows = [{**row, 'duration': None, 'qid': None} for row in _QVHIGHLIGHTS]
  rows[1]['relevant_windows'] = None
  (folder / 'highlight_val_release.jsonl').write_text(
    '\n'.join(map(json.dumps, rows))
  )
  _, spans, durations = _join(tmp_path)
  _expect(spans, durations, np.nan)
