"""The header `Range`, as RFC 9110 defines it."""

import pytest

from dreamprvr_jax.archive.serving.downloads import ranges


@pytest.mark.parametrize(
  ('header', 'parts'),
  [
    ('bytes=0-0', [(0, 1)]),
    ('bytes=2-', [(2, 10)]),
    ('bytes=-3', [(7, 10)]),
    ('bytes=-99', [(0, 10)]),
    ('bytes=4-99', [(4, 10)]),
    ('BYTES=0-1', [(0, 2)]),
    ('bytes= 0-1 ,\t5-6, ', [(0, 2), (5, 7)]),
    # Ranges are sorted, and adjacent ones are joined.
    ('bytes=6-7,0-1,2-3,1-1', [(0, 4), (6, 8)]),
    # One of the ranges exists.
    ('bytes=99-,3-3', [(3, 4)]),
    # No range exists.
    ('bytes=10-', []),
    ('bytes=-0', []),
    ('bytes=10-12,99-', []),
    # A header that is malformed or has another unit is ignored.
    ('', None),
    ('bytes', None),
    ('bytes=', None),
    ('bytes=,', None),
    ('bytes=-', None),
    ('bytes=abc', None),
    ('bytes=5-4', None),
    ('bytes=0-1,5-4', None),
    ('bytes=0-1,x', None),
    ('bytes=1', None),
    ('bytes=+1-2', None),
    ('bytes=1-2-3', None),
    ('bytes=\u0661-\u0662', None),
    ('bytes=0-' + '9' * 5000, None),
    ('items=0-1', None),
    ('bytes 0-1', None),
    # There are too many ranges.
    ('bytes=0-0,2-2,4-4,6-6', None),
  ],
)
def test_ranges(header, parts):
  assert ranges(header, 10, most=3 if '6-6' in header else 4) == parts


def test_an_empty_file_has_no_part():
  assert ranges('bytes=0-', 0, 4) == ranges('bytes=-5', 0, 4) == []
