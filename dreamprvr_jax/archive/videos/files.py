"""Opening a video file, and the errors that are about the file."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dreamprvr_jax.archive.videos.names import shown
from dreamprvr_jax.errors import UserError

if TYPE_CHECKING:
  from av.container import InputContainer
  from av.video.stream import VideoStream

# Pictures that a file may claim to hold: twice as many as 8K has. A file of a
# few bytes can claim any size, and a decoder takes the memory for it.
MAX_PIXELS = 1 << 26
# From this version on names in files that are not UTF-8 are no errors, and
# there is no option for it.
_LENIENT = 19


class VideoError(UserError):
  """A file that is no video, or one that cannot be decoded.

  Attributes:
    path: The file.
    reason: What is wrong with it, and what to do.
  """

  def __init__(self, path: str, reason: str):
    super().__init__(path, reason)
    self.path = path
    self.reason = reason

  def __str__(self) -> str:
    return f'{shown(self.path)} {self.reason}'


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


@contextlib.contextmanager
def opened(
  path: str, *, threads: int = 0
) -> Iterator[tuple['InputContainer', 'VideoStream']]:
  """Gives an open file and its pictures' stream.

  Errors of FFmpeg in the block are about the file and become a VideoError. Any
  other error is one of the program, and stays what it is.

  Args:
    path: The file.
    threads: Of the decoder; 0: as many as it likes.

  Raises:
    UserError: If PyAV is not installed.
    VideoError: If the file cannot be read or decoded, holds no pictures, or
      claims pictures of more than `MAX_PIXELS`.
  """
  av = import_av()
  try:
    size = os.path.getsize(path)
  except OSError as error:
    raise VideoError(path, f'cannot be read ({error.strerror})') from None
  if not size:
    raise VideoError(path, 'is empty (0 bytes); copy it again')
  most = {'max_pixels': str(MAX_PIXELS)}
  lenient = {}
  if int(av.__version__.partition('.')[0]) < _LENIENT:
    lenient['metadata_errors'] = 'replace'
  try:
    with av.open(path, options=most, **lenient) as container:
      stream = _pictures(path, container)
      # The decoder does not take the container's options.
      stream.codec_context.options = {**stream.codec_context.options, **most}
      stream.codec_context.thread_count = threads
      stream.thread_type = 'AUTO'
      yield container, stream
  except av.error.FFmpegError as error:
    reason = error.strerror or error
    if isinstance(error, (OSError, MemoryError)):
      # The disk's or the machine's fault, not that of its content.
      raise VideoError(path, f'cannot be read ({reason})') from error
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
    raise VideoError(path, f'holds no pictures, only {others}')
  decoder = found[0].codec_context
  if decoder is None:
    raise VideoError(
      path,
      'holds pictures of a codec that the installed FFmpeg does not know; '
      'encode it again, for example as H.264',
    )
  if decoder.width * decoder.height > MAX_PIXELS:
    raise VideoError(
      path,
      f'claims pictures of {decoder.width} x {decoder.height} pixels, more '
      f'than the {MAX_PIXELS:,} that are read; encode it smaller',
    )
  if not decoder.width or not decoder.height:
    # FFmpeg forgets sizes that are above the limit.
    raise VideoError(
      path,
      'cannot be decoded: it claims no size of its pictures, or one of more '
      f'than the {MAX_PIXELS:,} pixels that are read; it is damaged, or has to '
      'be encoded smaller',
    )
  return found[0]
