"""Answers with a file, or with the parts of it that a request asks for."""

import contextlib
import email.utils
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from fastapi import HTTPException, Response
from fastapi.responses import StreamingResponse

_CHUNK = 2**17
# Eighteen digits are more than any file has bytes.
_SPEC = re.compile(r'([0-9]{0,18})-([0-9]{0,18})')


def answer(
  file: BinaryIO,
  media_type: str,
  asked: Mapping[str, str],
  *,
  most: int,
  head: bool = False,
) -> Response:
  """Returns the answer to a request for a file: 200, 206 or 304.

  Args:
    file: The open file; it is closed when the answer is sent.
    media_type: The media type of the file.
    asked: The request's headers.
    most: Parts that one request may ask for.
    head: Whether only the header of the answer is wanted; `Range` is ignored
      then.

  Raises:
    HTTPException: 412 if the file has changed, 416 if it has none of the bytes
      that the request asks for.
  """
  with contextlib.ExitStack() as stack:
    stack.enter_context(file)
    facts = os.fstat(file.fileno())
    size, second = facts.st_size, int(facts.st_mtime)
    headers = {
      'accept-ranges': 'bytes',
      'etag': f'"{facts.st_mtime_ns:x}-{size:x}"',
      'last-modified': email.utils.formatdate(second, usegmt=True),
    }
    if _has_changed(asked, headers['etag'], second):
      raise HTTPException(
        412, 'the file has changed: it is not the one that the request names'
      )
    if _is_known(asked, headers['etag'], second):
      return Response(status_code=304, headers=headers)
    parts = None
    known = asked.get('if-range', headers['etag'])
    if not head and known in (headers['etag'], headers['last-modified']):
      parts = ranges(asked.get('range', ''), size, most)
    if parts == []:
      raise HTTPException(
        416,
        f'the file has {size:,} bytes, and none of those in the header Range',
        {'Content-Range': f'bytes */{size}'},
      )
    pieces, status = [(b'', 0, size)], 200
    if parts and len(parts) == 1:
      ((start, end),) = parts
      pieces, status = [(b'', start, end)], 206
      headers['content-range'] = f'bytes {start}-{end - 1}/{size}'
    elif parts:
      boundary = secrets.token_hex(13)
      pieces, status = _multipart(parts, size, media_type, boundary), 206
      media_type = f'multipart/byteranges; boundary={boundary}'
    length = sum(len(before) + end - start for before, start, end in pieces)
    headers['content-length'] = str(length)
    if head:
      return Response(status_code=200, headers=headers, media_type=media_type)
    stack.pop_all()
    return StreamingResponse(
      _read(file, pieces), status, headers, media_type=media_type
    )


def _multipart(
  parts: Sequence[tuple[int, int]], size: int, media_type: str, boundary: str
) -> list[tuple[bytes, int, int]]:
  """Returns [(bytes before a part, start, end)] of many parts, then the end."""
  pieces = [
    (
      f'\r\n--{boundary}\r\nContent-Type: {media_type}\r\n'
      f'Content-Range: bytes {start}-{end - 1}/{size}\r\n\r\n'.encode(),
      start,
      end,
    )
    for start, end in parts
  ]
  return [*pieces, (f'\r\n--{boundary}--\r\n'.encode(), 0, 0)]


def _read(
  file: BinaryIO, pieces: Sequence[tuple[bytes, int, int]]
) -> Iterator[bytes]:
  with file:
    for before, start, end in pieces:
      if before:
        yield before
      file.seek(start)
      while start < end:
        chunk = file.read(min(_CHUNK, end - start))
        if not chunk:
          # The file was cut meanwhile: too little is sent, and the connection
          # ends.
          return
        start += len(chunk)
        yield chunk


def _has_changed(asked: Mapping[str, str], etag: str, second: int) -> bool:
  """Returns whether the file is not the one that a request expects."""
  if 'if-match' in asked:
    return not {'*', etag} & _tags(asked['if-match'])
  limit = _second_of(asked.get('if-unmodified-since'))
  return limit is not None and second > limit


def _is_known(asked: Mapping[str, str], etag: str, second: int) -> bool:
  """Returns whether the client has this file already."""
  if 'if-none-match' in asked:
    tags = {tag.removeprefix('W/') for tag in _tags(asked['if-none-match'])}
    return bool({'*', etag} & tags)
  limit = _second_of(asked.get('if-modified-since'))
  return limit is not None and second <= limit


def _tags(header: str) -> set[str]:
  return {tag.strip() for tag in header.split(',')}


def _second_of(date: str | None) -> float | None:
  """Returns the Unix time of an HTTP date; None if it is invalid."""
  try:
    return email.utils.parsedate_to_datetime(date or '').timestamp()
  except (TypeError, ValueError, OverflowError):
    return None


def ranges(header: str, size: int, most: int) -> list[tuple[int, int]] | None:
  """Returns the parts of a file that the header `Range` names (RFC 9110, 14).

  Args:
    header: The header's value.
    size: Bytes of the file.
    most: Parts of a request, at most; a request for more gets the whole file.

  Returns:
    [(start, stop)], sorted, without overlaps; empty if the file has no such
    byte. None if the header is ignored because its unit is unknown, it is
    malformed, or it has too many parts.
  """
  unit, equals, given = header.partition('=')
  specs = [spec.strip(' \t') for spec in given.split(',')]
  specs = [spec for spec in specs if spec]
  if not equals or unit.strip(' \t').lower() != 'bytes':
    return None
  if not 0 < len(specs) <= most:
    return None
  found: list[tuple[int, int]] = []
  for spec in specs:
    match = _SPEC.fullmatch(spec)
    if not match or spec == '-':
      return None
    first, last = match.groups()
    if not first:
      found.append((max(size - int(last), 0), size))
    elif not last:
      found.append((int(first), size))
    elif int(first) <= int(last):
      found.append((int(first), min(int(last) + 1, size)))
    else:
      return None
  return _joined([part for part in found if part[0] < part[1]])


def _joined(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
  """Returns the parts in order; those that touch become one."""
  joined: list[tuple[int, int]] = []
  for start, end in sorted(parts):
    if joined and start <= joined[-1][1]:
      joined[-1] = joined[-1][0], max(end, joined[-1][1])
    else:
      joined.append((start, end))
  return joined
