"""Tests of reading caption files."""

import pytest

from data_pipeline.captions import read_captions
from data_pipeline.errors import BadItemError, DataError
from dreamprvr_jax.text import TextError


def write(tmp_path, raw):
  path = tmp_path / 'c.txt'
  path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
  return path


def test_lines(tmp_path):
  captions, skipped = read_captions(
    write(tmp_path, 'v#enc#0\tcaf\u00e9  au lait \r\nv#enc#1 x\n\n \n\u200b\n')
  )
  assert [c.text for c in captions] == ['caf\u00e9 au lait', 'x']
  assert [c.number for c in captions] == [0, 1]
  assert [c.line for c in captions] == [1, 2]
  assert not skipped
  assert captions[0].video == 'v'


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path):
  captions, _ = read_captions(write(tmp_path, '\ufeffv#enc#0 x\nw#enc#0 y\n'))
  assert [c.video for c in captions] == ['v', 'w']


def test_only_line_feeds_end_a_line(tmp_path):
  odd = 'v#enc#0 a\u2028b\u0085c\x0bd\re\nw#enc#0 y\n'
  captions, _ = read_captions(write(tmp_path, odd))
  assert [c.text for c in captions] == ['a b c d e', 'y']


def test_ids_and_sentences_are_composed(tmp_path):
  captions, _ = read_captions(write(tmp_path, 'cafe\u0301#enc#0 cafe\u0301\n'))
  assert (captions[0].id, captions[0].text) == ('caf\u00e9#enc#0', 'caf\u00e9')
  with pytest.raises(BadItemError, match=r'duplicate caption id .* line 1'):
    read_captions(write(tmp_path, 'cafe\u0301#enc#0 x\ncaf\u00e9#enc#0 y\n'))


@pytest.mark.parametrize(
  ('line', 'reason'),
  [
    (b'v#enc#1 caf\xe9', 'holds the bytes e9, which are not UTF-8 text'),
    (b'caf\xe9#enc#1 x', 'holds the bytes e9'),
    (b'v#enc#1 \xff\xfe', 'holds the bytes ff'),
    ('v#enc#1 \u200b\u00ad'.encode(), 'has no text'),
    (b'v#enc#1', 'has no text'),
    ('\u200b \ufeff'.encode(), 'blank line'),
    (b'v\0#enc#1 x', 'malformed line'),
    (b'#enc#1 x', 'malformed line'),
  ],
)
def test_bad_lines(tmp_path, line, reason):
  path = write(tmp_path, b'v#enc#0 a\n' + line + b'\nw#enc#0 b\n')
  with pytest.raises(BadItemError, match=reason) as caught:
    read_captions(path)
  assert caught.value.item == f'{path}:2'
  captions, skipped = read_captions(path, skip_bad=True)
  assert [c.id for c in captions] == ['v#enc#0', 'w#enc#0']
  assert [where for where, _ in skipped] == [f'{path}:2']


@pytest.mark.parametrize('skip_bad', [True, False])
def test_another_encoding_is_named(tmp_path, skip_bad):
  path = write(tmp_path, 'v#enc#0 a\n'.encode('utf-16'))
  with pytest.raises(TextError, match=r'c\.txt is UTF-16 text'):
    read_captions(path, skip_bad)


def test_nothing_is_left(tmp_path):
  with pytest.raises(DataError, match='no usable caption'):
    read_captions(write(tmp_path, ''))
