"""Small pictures out of video files, made when they are asked for."""

import collections
import io
import threading
from typing import Any

from dreamprvr_jax.errors import UserError
from serving.errors import Busy
from serving.files import VideoFile

_WIDTH = 320
_QUALITY = 80
# Pictures are kept by file and time, to a step of so many seconds.
_STEP = 0.25
# Frames decoded behind a key frame to come to the right one, at most.
_FRAMES = 600


class Thumbnails:
  """Makes pictures and keeps the last ones; may be used from many threads."""

  def __init__(self, *, waiting: int, kept_bytes: int):
    """Makes none yet.

    Args:
      waiting: Pictures that are made, or wait to be made, at most.
      kept_bytes: Of the pictures that are kept.
    """
    self._kept: collections.OrderedDict[Any, bytes] = collections.OrderedDict()
    self._room, self._size = kept_bytes, 0
    self._waiting = threading.BoundedSemaphore(waiting)
    # One at a time: decoding has threads of its own.
    self._decoding, self._lock = threading.Lock(), threading.Lock()

  def picture(self, file: VideoFile, seconds: float) -> bytes:
    """Returns a JPEG of the frame that is shown at a time, of the last one if
    the video is shorter.

    Raises:
      Busy: If too many are waiting for one.
      UserError: If the package av is missing, or the file has no picture.
    """
    key = file.path, round(seconds / _STEP)
    with self._lock:
      if key in self._kept:
        self._kept.move_to_end(key)
        return self._kept[key]
    if not self._waiting.acquire(blocking=False):
      raise Busy('too many pictures are waiting to be made')
    try:
      with self._decoding:
        made = _made(file, key[1] * _STEP)
    finally:
      self._waiting.release()
    with self._lock:
      if key not in self._kept:
        self._kept[key] = made
        self._size += len(made)
      while self._size > self._room:
        _, oldest = self._kept.popitem(last=False)
        self._size -= len(oldest)
    return made


def _made(file: VideoFile, seconds: float) -> bytes:
  try:
    import av
    from av.error import FFmpegError
  except ModuleNotFoundError:
    raise UserError(
      'there are no thumbnails: the package av is not installed on the server; '
      "install it with pip install 'dreamprvr_jax[videos]'"
    ) from None
  try:
    with av.open(str(file.path)) as container:
      stream = container.streams.video[0]
      stream.thread_type = 'AUTO'
      start = stream.start_time or 0
      if stream.time_base and seconds:
        container.seek(start + int(seconds / stream.time_base), stream=stream)
      frame = None
      for number, frame in enumerate(container.decode(stream)):
        after = frame.time is None or frame.time >= seconds
        if after or number >= _FRAMES:
          break
      if frame is None:
        # Past the end: the first picture is better than none.
        container.seek(0)
        frame = next(container.decode(stream))
      height = max(2, round(_WIDTH * frame.height / frame.width))
      picture = frame.to_image(width=_WIDTH, height=height)
  except (FFmpegError, IndexError, StopIteration, OSError) as error:
    raise UserError(
      f'{file.path.name} gives no picture ({type(error).__name__}: {error})'
    ) from error
  out = io.BytesIO()
  picture.save(out, 'JPEG', quality=_QUALITY)
  return out.getvalue()
