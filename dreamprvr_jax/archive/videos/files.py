"""Video files: opening them, their names, and the errors about them."""

import contextlib
import importlib.metadata
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dreamprvr_jax.archive.videos.containers import formats_of
from dreamprvr_jax.errors import UserError

if TYPE_CHECKING:
  from av.container import InputContainer
  from av.video.stream import VideoStream

# Pixels of a picture, at most: twice as many as 8K has. A file of a few bytes
# can claim any size, and a decoder allocates the memory for it.
MAX_PIXELS = 1 << 26
# From this version of PyAV on, names in files that are not UTF-8 are no errors,
# and the option for it is gone.
_LENIENT = 19
# What Python makes of a byte of a file's name that is not UTF-8.
_BYTES = re.compile('[\udc80-\udcff]')
# How a reason begins that is the fault of the disk or machine, not of the
# content: it may pass, while the file stays as it is.
UNREAD = 'cannot be read'
# Bytes of the header of a box, of which MP4 files are made.
_HEADER = 8


class VideoError(UserError):
  """A file is no video, or it cannot be decoded.

  Attributes:
    path: The file.
    reason: The problem, and what to do about it.
  """

  def __init__(self, path: str, reason: str):
    super().__init__(path, reason)
    self.path = path
    self.reason = reason

  def __str__(self) -> str:
    return f'{shown(self.path)} {self.reason}'


def shown(name: os.PathLike[str] | str) -> str:
  """Returns a name as text that can be printed, stored and used in an id.

  A file's name is bytes. Each byte that is not UTF-8, a lone surrogate in
  Python, becomes '%' and two hexadecimal digits, as in 'caf%E9'.
  """
  return _BYTES.sub(
    lambda found: f'%{ord(found[0]) & 0xFF:02X}', os.fspath(name)
  )


def import_av() -> Any:
  """Returns PyAV.

  Raises:
    UserError: If it is not installed.
  """
  try:
    import av
    import av.error
    import av.stream
  except ImportError as error:
    raise UserError(
      f'videos are decoded with PyAV, which cannot be imported ({error}); '
      "install it: pip install 'dreamprvr_jax[videos]' or pip install av"
    ) from None
  return av


def av_version() -> str:
  """Returns the version of PyAV; '' if it is not installed."""
  try:
    return importlib.metadata.version('av')
  except importlib.metadata.PackageNotFoundError:
    return ''


@contextlib.contextmanager
def opened(
  path: str, *, threads: int = 0
) -> Iterator[tuple['InputContainer', 'VideoStream']]:
  """Gives an open file and the stream of its pictures.

  Errors of FFmpeg in the block are about the file and become a VideoError. Any
  other error is one of the program and is not changed.

  Args:
    path: The file.
    threads: Threads of the decoder; 0 lets it choose.

  Raises:
    UserError: If PyAV is not installed.
    VideoError: If the file cannot be read or decoded, has no pictures, or
      claims pictures of more than `MAX_PIXELS`.
  """
  av = import_av()
  try:
    size = os.path.getsize(path)
  except OSError as error:
    raise VideoError(path, f'{UNREAD} ({error.strerror})') from None
  if not size:
    raise VideoError(path, 'is empty (0 bytes); copy it again')
  most = {'max_pixels': str(MAX_PIXELS)}
  formats = {'format_whitelist': formats_of(path)}
  lenient = {}
  if int(av.__version__.partition('.')[0]) < _LENIENT:
    lenient['metadata_errors'] = 'replace'
  try:
    with av.open(path, options={**most, **formats}, **lenient) as container:
      stream = _pictures(path, container)
      # The decoder does not take the container's options.
      stream.codec_context.options = {**stream.codec_context.options, **most}
      stream.codec_context.thread_count = threads
      stream.thread_type = 'AUTO'
      yield container, stream
  except av.error.FFmpegError as error:
    reason = error.strerror or error
    if isinstance(error, (OSError, MemoryError)):
      # The fault of the disk or machine, not of the content.
      raise VideoError(path, f'{UNREAD} ({reason})') from error
    raise VideoError(
      path,
      f'cannot be decoded ({reason}); it is damaged, truncated or no video: '
      'copy or encode it again',
    ) from error


def _pictures(path: str, container: 'InputContainer') -> 'VideoStream':
  """Returns the first stream of moving pictures."""
  cover = import_av().stream.Disposition.attached_pic
  found = [s for s in container.streams.video if not s.disposition & cover]
  if not found:
    kinds = sorted({str(s.type) for s in container.streams} - {'video'})
    others = ' and '.join(kinds) or 'nothing'
    raise VideoError(path, f'has no pictures, only {others}')
  decoder = found[0].codec_context
  if decoder is None:
    raise VideoError(
      path,
      'has pictures of a codec that the installed FFmpeg does not know; '
      'encode it again, for example as H.264',
    )
  if decoder.width * decoder.height > MAX_PIXELS:
    raise VideoError(
      path,
      f'claims pictures of {decoder.width} x {decoder.height} pixels, more '
      f'than the {MAX_PIXELS:,} that are read; encode it smaller',
    )
  if not decoder.width or not decoder.height:
    # FFmpeg reports no size above the limit.
    raise VideoError(
      path,
      'cannot be decoded: it states no size of its pictures, or more than '
      f'{MAX_PIXELS:,} pixels; it is damaged, or has to be encoded smaller',
    )
  return found[0]


def is_torn(path: str) -> bool:
  """Returns whether an MP4 file ends inside one of its outermost boxes."""
  size = os.path.getsize(path)
  with open(path, 'rb') as file:
    place = 0
    while place < size:
      file.seek(place)
      header = file.read(2 * _HEADER)
      length = int.from_bytes(header[:4], 'big')
      if length == 1:
        # The length is in the next eight bytes.
        length = int.from_bytes(header[_HEADER:], 'big')
      if length == 0:
        return False  # The box goes on to the end of the file.
      if length < _HEADER:
        return True  # This is no box.
      place += length
  return place > size
