"""Reads text: UTF-8 files, their rows, ids, sentences and JSON.

This is the one place that decodes text written by other people. It needs
nothing but the standard library, so every package may use it.
"""

import gzip
import io
import json
import pathlib
import re
import unicodedata
import zlib
from collections.abc import Iterable
from typing import Any, Protocol

from dreamprvr_jax.errors import UserError

_BYTE_ORDER_MARKS = {
  b'\xff\xfe\x00\x00': 'UTF-32',
  b'\x00\x00\xfe\xff': 'UTF-32',
  b'\xff\xfe': 'UTF-16',
  b'\xfe\xff': 'UTF-16',
}
_UTF8_MARK = b'\xef\xbb\xbf'
# Letters, symbols and marks that show nothing, by their code points. All other
# invisible characters are known by their general category (Z or C).
_INVISIBLE = frozenset(
  [
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
  ]
)
_SURROGATE = re.compile('[\ud800-\udfff]')
# The most bytes of a gzipped text file once it is unpacked.
MAX_TEXT_BYTES = 4 << 30


class _Path(Protocol):
  """A local path or one of `etils.epath`."""

  @property
  def name(self) -> str: ...

  def read_bytes(self) -> bytes: ...


class TextError(UserError):
  """Text that is not UTF-8, not JSON, or that cannot be written back."""


def decode(raw: bytes, where: str) -> str:
  """Returns the text of UTF-8 bytes, without the byte order mark if any.

  Args:
    raw: The bytes of a whole file.
    where: Its name in errors, such as the path.

  Raises:
    TextError: If the bytes are not UTF-8; names the line and the bytes.
  """
  raw = _unmarked(raw, where)
  try:
    return raw.decode('utf-8')
  except UnicodeDecodeError as error:
    line = raw.count(b'\n', 0, error.start) + 1
    raise TextError(f'{where}:{line} {_bad_bytes(error)}') from None


def read(path: _Path | str) -> str:
  """Returns the text of a file, which may be gzipped (.gz).

  Raises:
    TextError: If it is not UTF-8, or a damaged or huge gzip file.
    OSError: If it cannot be read.
  """
  return decode(_content(path), str(path))


def rows(text: str) -> list[str]:
  r"""Returns the rows of a text, which end at \n or \r\n and nothing else.

  `str.splitlines` also cuts at characters that JSON and sentences may contain,
  such as U+2028 and U+0085. A byte order mark at the start of a row, as in
  files that were joined, is left out.
  """
  found = [row.removesuffix('\r') for row in text.split('\n')]
  found = [row.removeprefix('\ufeff') for row in found]
  return found if found[-1] else found[:-1]


def read_rows(path: _Path | str) -> list[str]:
  """Returns the rows of a file; see `read` and `rows`."""
  return rows(read(path))


def read_each_row(path: _Path | str) -> list[str | TextError]:
  """Returns the rows of a file; an error stands for a row that is not UTF-8.

  Raises:
    TextError: If the whole file is in another encoding, or a damaged or huge
      gzip file.
    OSError: If it cannot be read.
  """
  found: list[str | TextError] = []
  for raw in _unmarked(_content(path), str(path)).split(b'\n'):
    try:
      found += rows(raw.decode('utf-8')) or ['']
    except UnicodeDecodeError as error:
      found.append(TextError(_bad_bytes(error)))
  return found if found[-1] else found[:-1]


def parse_json(text: str, where: str, *, strict: bool = False) -> Any:
  """Returns the value of a JSON text.

  Args:
    text: The JSON.
    where: Its name in errors.
    strict: Whether NaN and Infinity, which JSON does not have, are refused.

  Raises:
    TextError: If it is not JSON, or nested too deeply.
  """
  try:
    return json.loads(text, parse_constant=_no_constant if strict else None)
  except RecursionError:
    raise TextError(
      f'{where} nests its JSON too deeply to be read; expected flat rows'
    ) from None
  except ValueError as error:
    raise TextError(f'{where} is not JSON ({error}); correct it') from None


def normal(text: str) -> str:
  """Returns the text in Unicode's composed form (NFC), in which ids and
  queries are compared."""
  return unicodedata.normalize('NFC', text)


def surrogate(text: str) -> str:
  r"""Returns the first lone surrogate as '\ud83d'; '' if there is none.

  JSON can contain half an emoji, which no UTF-8 text can.
  """
  found = _SURROGATE.search(text)
  return f'\\u{ord(found[0]):04x}' if found else ''


def check(text: str, where: str) -> str:
  """Returns the text in NFC.

  Raises:
    TextError: If it has half a character; names it and `where`.
  """
  half = surrogate(text)
  if half:
    raise TextError(
      f'{where} holds {half}, which is half of a character and no text; write '
      'the whole character or leave it out'
    )
  return normal(text)


def by_normal(names: Iterable[str], where: str) -> dict[str, str]:
  """Returns {name in NFC: name as given}, in their order.

  Args:
    names: Different names.
    where: Where the names come from, for the error.

  Raises:
    TextError: If two of them are the same in NFC; names both.
  """
  found: dict[str, str] = {}
  for name in names:
    same = found.setdefault(normal(name), name)
    if same != name:
      raise TextError(
        f'{where} holds both {same!a} and {name!a}, which are the '
        'same id in composed form (NFC); rename one'
      )
  return found


def is_blank(text: str) -> bool:
  """Returns whether a text has no visible character."""
  return all(
    unicodedata.category(c)[0] in 'ZC' or ord(c) in _INVISIBLE for c in text
  )


def sentence(text: str, where: str) -> str:
  """Returns a query in NFC, with one space between its words.

  Every query passes through here before it becomes words, so that the same
  letters, however they are composed, find the same videos.

  Raises:
    TextError: If it shows nothing, or has half a character or NUL.
  """
  found = ' '.join(check(text, where).split())
  if is_blank(found):
    raise TextError(f'{where}: the query is empty; write what to look for')
  if '\0' in found:
    raise TextError(
      f'{where} holds a NUL character, which is no text; leave it out'
    )
  return found


def _no_constant(name: str) -> None:
  raise ValueError(f'{name} is no number that JSON has')


def _content(path: _Path | str) -> bytes:
  """Returns the bytes of a file, unpacked."""
  source = pathlib.Path(path) if isinstance(path, str) else path
  raw = source.read_bytes()
  return _unpacked(raw, str(path)) if source.name.endswith('.gz') else raw


def _unmarked(raw: bytes, where: str) -> bytes:
  """Returns bytes without UTF-8's mark; another encoding's is an error."""
  raw = raw.removeprefix(_UTF8_MARK)
  for mark, encoding in _BYTE_ORDER_MARKS.items():
    if raw.startswith(mark):
      raise TextError(
        f'{where} is {encoding} text where UTF-8 was expected; save it as UTF-8'
      )
  return raw


def _bad_bytes(error: UnicodeDecodeError) -> str:
  bad = error.object[error.start : error.end].hex(' ')
  return (
    f'holds the bytes {bad}, which are not UTF-8 text; save the file as UTF-8'
  )


def _unpacked(raw: bytes, where: str) -> bytes:
  """Returns the content of a gzip file, piece by piece up to the limit."""
  size, parts = 0, []
  try:
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
      while part := file.read(1 << 20):
        size += len(part)
        if size > MAX_TEXT_BYTES:
          raise TextError(
            f'{where} unpacks to more than {MAX_TEXT_BYTES >> 30} GiB of text, '
            'the most that is read; cut it into smaller files'
          )
        parts.append(part)
  except (gzip.BadGzipFile, EOFError, zlib.error) as error:
    raise TextError(
      f'{where} cannot be unpacked ({error}); it is truncated or damaged, copy '
      'it again'
    ) from None
  return b''.join(parts)
