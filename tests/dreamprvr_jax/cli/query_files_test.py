"""Tests of files of queries and of lists of ids."""

import json

import h5py
import numpy as np
import pytest

from dreamprvr_jax.cli import query_files
from dreamprvr_jax.cli.places import ids_in
from dreamprvr_jax.errors import UserError


def write(path, content):
  raw = content if isinstance(content, bytes) else content.encode()
  path.write_bytes(raw)
  return str(path)


def test_sentences_of_a_text_file(tmp_path):
  odd = 'a man\u2028runs\u0085cafe\u0301'
  path = write(tmp_path / 'q.txt', f'\ufeff{odd}\r\n\n\u200b\n b \n')
  assert query_files.read_sentences(path) == {
    '1': 'a man\u2028runs\u0085caf\u00e9',
    '4': 'b',
  }


def test_sentences_of_rows(tmp_path):
  rows = [
    {'id': 'cafe\u0301', 'text': 'a\u2028b\u0085c'},
    {'id': None, 'text': 'two'},
    {'id': 7, 'text': 'three'},
    {'text': 'four'},
  ]
  text = '\n'.join(json.dumps(row, ensure_ascii=False) for row in rows)
  path = write(tmp_path / 'q.jsonl', f'\ufeff{text}')
  assert query_files.read_sentences(path) == {
    'caf\u00e9': 'a\u2028b\u0085c',
    '2': 'two',
    '7': 'three',
    '4': 'four',
  }


def test_sentences_of_a_table(tmp_path):
  path = write(
    tmp_path / 'q.csv', '\ufeffid;Query\r\ndog;"a dog; \nruns"\r\n;rain\r\n'
  )
  assert query_files.holds_sentences(path)
  assert query_files.read_sentences(path) == {
    'dog': 'a dog; \nruns',
    '4': 'rain',
  }


@pytest.mark.parametrize(
  ('name', 'content', 'sentence'),
  [
    ('q.csv', 'id\na\n', '"text" is missing.*expected the columns "id" and'),
    ('q.csv', 'id,text\na,b\na,c\n', ":3: the query 'a' comes twice"),
    ('q.csv', 'text\n"a\n', r':2 is no row of CSV'),
    ('q.txt', b'a\ncaf\xe9', 'q.txt:2 holds the bytes e9'),
    ('q.txt', 'a'.encode('utf-16'), 'is UTF-16 text'),
    ('q.txt', '\u200b\n\n', 'has no query'),
    ('q.jsonl', '{"text": "a"}\n{"text": "b\\ud83d"}', r':2 .*holds \\ud83d'),
    ('q.jsonl', '{"text": "a", "id": "b\\ud83d"}', r':1 .*holds \\ud83d'),
    ('q.jsonl', '{"text": "\u200b"}', "the query '1' has no text"),
    ('q.jsonl', '{"text": null}', '"text" is missing'),
    ('q.jsonl', '{"text": 3}', '3 is not a sentence'),
    ('q.jsonl', '{"text": "a", "id": []}', r'the id is \[\]'),
    ('q.jsonl', '{"text": "a", "id": ""}', 'the id is empty'),
    ('q.jsonl', '[' * 100_000, ':1 is no query .*too deeply'),
    ('q.jsonl', '3', ':1 is no query'),
    (
      'q.jsonl',
      '{"text": "a", "id": "caf\u00e9"}\n{"text": "b", "id": "cafe\u0301"}',
      'comes twice',
    ),
  ],
)
def test_bad_sentences(tmp_path, name, content, sentence):
  path = write(tmp_path / name, content)
  with pytest.raises(UserError, match=sentence):
    query_files.read_sentences(path)


@pytest.mark.parametrize('ending', ['npz', 'hdf5'])
def test_ids_of_word_features_are_composed(tmp_path, ending):
  def stored(*names):
    path = tmp_path / f'q.{ending}'
    arrays = {name: np.ones((2, 3), np.float32) for name in names}
    if ending == 'npz':
      np.savez(path, **arrays)
    else:
      with h5py.File(path, 'w') as file:
        for name, array in arrays.items():
          file[name] = array
    return str(path)

  assert [*query_files.read_queries(stored('cafe\u0301'), 3)] == ['caf\u00e9']
  with pytest.raises(UserError) as caught:
    query_files.read_queries(stored('cafe\u0301', 'caf\u00e9'), 3)
  assert r"'cafe\u0301'" in str(caught.value)
  assert r"'caf\xe9'" in str(caught.value)


@pytest.mark.parametrize('there', ['caf\u00e9', 'cafe\u0301'])
def test_ids_to_remove(tmp_path, there):
  path = write(tmp_path / 'ids.txt', '\ufeffv1\r\ncafe\u0301\n\n\u200b\nv2')
  assert ids_in('remove', f'@{path}', ['v1', there]) == ['v1', there, 'v2']
  assert ids_in('remove', 'caf\u00e9, v1,', [there]) == [there, 'v1']


@pytest.mark.parametrize(
  ('content', 'sentence'),
  [
    (b'v1\ncaf\xe9\n', 'ids.txt:2 holds the bytes e9'),
    (b'\n\n', 'names no video'),
  ],
)
def test_bad_ids_to_remove(tmp_path, content, sentence):
  path = write(tmp_path / 'ids.txt', content)
  with pytest.raises(UserError, match=sentence):
    ids_in('remove', f'@{path}', [])
