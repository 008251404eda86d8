import gzip
import json

import pytest

from dreamprvr_jax import text


@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
def test_a_byte_order_mark_is_no_text(mark):
  assert text.decode(mark + 'é\n'.encode(), 'FILE') == 'é\n'


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-32'])
def test_other_encodings_are_named(encoding):
  with pytest.raises(text.TextError, match=f'FILE is {encoding.upper()} text'):
    text.decode('a row'.encode(encoding), 'FILE')


def test_bad_bytes_are_named_with_their_line():
  raw = b'first\nsecond caf\xe9 x\n'
  with pytest.raises(text.TextError, match=r'FILE:2 holds the bytes e9'):
    text.decode(raw, 'FILE')


def test_rows_end_at_line_feeds_alone():
  joined = 'a\u2028b\x85c\x0bd\x0ce\rf'
  assert text.rows(f'{joined}\r\nsecond\n\nfourth') == [
    joined,
    'second',
    '',
    'fourth',
  ]
  assert text.rows('') == []
  assert text.rows('one\n') == ['one']


def test_each_row_is_text_or_says_why_not(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_bytes(b'\xef\xbb\xbfone\r\ncaf\xe9 x\n\n\xef\xbb\xbffour\n')
  one, two, *rest = text.read_each_row(path)
  assert (one, rest) == ('one', ['', 'four'])
  assert isinstance(two, text.TextError)
  assert str(two).startswith('holds the bytes e9')
  path.write_bytes('one'.encode('utf-16'))
  with pytest.raises(text.TextError, match='is UTF-16 text'):
    text.read_each_row(path)


def test_ids_that_are_the_same_in_composed_form():
  names = ['b', 'cafe\u0301', 'a']
  assert text.by_normal(names, 'FILE') == {
    'b': 'b',
    'caf\u00e9': 'cafe\u0301',
    'a': 'a',
  }
  with pytest.raises(text.TextError) as caught:
    text.by_normal([*names, 'caf\u00e9'], 'FILE')
  assert r"FILE holds both 'cafe\u0301' and 'caf\xe9'" in str(caught.value)


def test_reads_gzip(tmp_path):
  path = tmp_path / 'a.jsonl.gz'
  path.write_bytes(gzip.compress(b'\xef\xbb\xbf{}\r\n{}'))
  assert text.read_rows(path) == ['{}', '{}']


def test_a_damaged_gzip_file_is_named(tmp_path):
  path = tmp_path / 'a.txt.gz'
  path.write_bytes(gzip.compress(b'a row of text' * 99)[:-9])
  with pytest.raises(text.TextError, match=r'a\.txt\.gz cannot be unpacked'):
    text.read(path)


def test_gzip_files_have_a_limit(tmp_path, monkeypatch):
  monkeypatch.setattr(text, 'MAX_TEXT_BYTES', 3 << 20)
  path = tmp_path / 'a.txt.gz'
  path.write_bytes(gzip.compress(b' ' * (4 << 20)))
  with pytest.raises(text.TextError, match='unpacks to more than'):
    text.read(path)


def test_json_that_is_deeply_nested():
  deep = '[' * 100_000
  with pytest.raises(text.TextError, match='FILE:1 nests its JSON too deeply'):
    text.parse_json(deep, 'FILE:1')
  with pytest.raises(text.TextError, match='FILE:1 is not JSON'):
    text.parse_json('{', 'FILE:1')


def test_half_a_character_is_named():
  half = json.loads('"a \\ud83d dog"')
  with pytest.raises(text.TextError, match=r'row 3 holds \\ud83d'):
    text.check(half, 'row 3')
  whole = json.loads('"\\ud83d\\ude00"')
  assert text.check(whole, 'row 3') == '\U0001f600'


def test_ids_are_composed():
  assert text.check('cafe\u0301', 'x') == text.normal('café') == 'caf\u00e9'


@pytest.mark.parametrize(
  ('content', 'blank'),
  [
    ('', True),
    (' \t\n', True),
    ('\u200b\u2060\ufeff', True),
    ('\u00ad\u3164\ufe0f', True),
    ('\U000e0041', True),
    ('a', False),
    ('?!', False),
    ('犬', False),
    ('\U0001f469\u200d\U0001f4bb', False),
  ],
)
def test_blank(content, blank):
  assert text.is_blank(content) == blank


def test_numbers_that_json_does_not_have():
  for name in ('NaN', 'Infinity', '-Infinity'):
    assert isinstance(text.parse_json(name, 'x'), float)
    with pytest.raises(text.TextError, match=f'x is not JSON .{name} is no'):
      text.parse_json(f'{{"k": [{name}]}}', 'x', strict=True)


def test_sentences():
  assert text.sentence(' a\tcafe\u0301 \n', 'x') == 'a caf\u00e9'
  for content, reason in (
    ('', 'the query is empty'),
    (' \u200b\u00ad\x00', 'the query is empty'),
    ('a\x00b', 'holds a NUL character'),
    ('a \udcff', r'holds \\udcff'),
  ):
    with pytest.raises(text.TextError, match=reason):
      text.sentence(content, 'x')
