"""A file, or the parts of it that a request asks for, as an answer."""

import contextlib
import email.utils
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from fastapi import HTTPException, Response
from fastapi.responses import StreamingResponse

from dreamprvr_jax.archive.serving import ranges

_CHUNK = 2**17


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
    media_type: Its kind.
    asked: The request's headers.
    most: Parts that one request may ask for.
    head: Whether only the header of the answer is wanted; `Range` means
      nothing then.

  Raises:
    HTTPException: 412 if the file is not as the request expects, 416 if it has
      no byte of what is asked for.
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
      raise HTTPException(412, 'the file is not the one that is expected')
    if _is_known(asked, headers['etag'], second):
      return Response(status_code=304, headers=headers)
    parts = None
    known = asked.get('if-range', headers['etag'])
    if not head and known in (headers['etag'], headers['last-modified']):
      parts = ranges.parse(asked.get('range', ''), size, most)
    if parts == []:
      raise HTTPException(
        416,
        f'the file has {size:,} bytes, and none of those that are asked for',
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
  """Returns [(bytes before it, start, end)] of many parts, and the end."""
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
          # It was cut meanwhile; the connection ends, as too little was sent.
          return
        start += len(chunk)
        yield chunk


def _has_changed(asked: Mapping[str, str], etag: str, second: int) -> bool:
  """Returns whether a request is for another state of the file."""
  if 'if-match' in asked:
    return not {'*', etag} & _tags(asked['if-match'])
  limit = _second_of(asked.get('if-unmodified-since'))
  return limit is not None and second > limit


def _is_known(asked: Mapping[str, str], etag: str, second: int) -> bool:
  """Returns whether who asks has the file already."""
  if 'if-none-match' in asked:
    tags = {tag.removeprefix('W/') for tag in _tags(asked['if-none-match'])}
    return bool({'*', etag} & tags)
  limit = _second_of(asked.get('if-modified-since'))
  return limit is not None and second <= limit


def _tags(header: str) -> set[str]:
  return {tag.strip() for tag in header.split(',')}


def _second_of(date: str | None) -> float | None:
  """Returns the Unix time of an HTTP date, None if it is none."""
  try:
    return email.utils.parsedate_to_datetime(date or '').timestamp()
  except (TypeError, ValueError, OverflowError):
    return None
