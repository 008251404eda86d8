"""Saving a stretch of a video as an MP4 file of its own.

Seconds are those of `Presentation`. If the picture at the start is a key frame,
the pictures are copied without a loss. Otherwise they are encoded again, as
H.264, upright and with square pixels.
"""

import contextlib
import dataclasses
import heapq
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from dreamprvr_jax import folders
from dreamprvr_jax.archive.videos import clip_streams
from dreamprvr_jax.archive.videos.files import (
  VideoError,
  import_av,
  opened,
  shown,
)
from dreamprvr_jax.archive.videos.presentation import Presentation, Shown
from dreamprvr_jax.errors import UserError

# The one kind of file that is written; all players know it.
ENDING = '.mp4'
# Seconds by which a clip that people watch may begin earlier than its moment.
EARLY = 0.5
# Kinds of pictures that are copied, and containers whose times are reliable.
_COPIED = ('h264', 'hevc', 'av1', 'vp9')
_CONTAINERS = {'mp4', 'matroska'}
# Decoding begins so many seconds before the start, as a file's index may lead
# too far; None: at the start of the file.
_BACK = (0.0, 10.0, None)


@dataclasses.dataclass(frozen=True)
class Saved:
  """A stretch that was saved.

  Attributes:
    start: Second of the whole file at which it begins.
    end: Second at which it ends.
    copied: Whether its pictures were copied, not encoded again.
  """

  start: float
  end: float
  copied: bool


@dataclasses.dataclass(frozen=True)
class _Plan:
  """How a stretch is cut.

  Attributes:
    start: Second of the whole file at which it begins.
    offset: The file's own clock at second 0.
    key: Ticks of the key frame to copy from; None to encode.
    back: Seconds before `start` at which decoding begins; None for the start of
      the file.
  """

  start: float
  offset: float
  key: int | None
  back: float | None


def save_clip(
  path: os.PathLike[str] | str,
  start: float,
  end: float,
  target: os.PathLike[str] | str,
  *,
  early: float = 0.0,
  copies: bool | None = None,
  lines: int = 0,
) -> Saved:
  """Saves a stretch of a video as an MP4 file; see the module.

  Args:
    path: The video.
    start: Second at which the stretch begins.
    end: Second at which it ends; the end of the video if that is earlier.
    target: The new file, which ends in .mp4; replaced in one step.
    early: Seconds by which the clip may begin earlier to begin at a key frame.
    copies: Whether the pictures are copied; None if they can be.
    lines: Lines of a picture that is encoded again, at most; 0 for any number.

  Raises:
    UserError: If the stretch is empty, the target has another ending, or PyAV
      is not installed.
    VideoError: If the video cannot be decoded, ends before the stretch, or
      cannot be copied although `copies` asks for it.
    OSError: If the target cannot be written.
  """
  name = os.fspath(path)
  if not 0 <= start < end < math.inf:
    raise UserError(
      f'the stretch {start:g}-{end:g} s of {shown(name)} is empty; give the '
      'second where it begins, from 0 on, and a later one where it ends'
    )
  if pathlib.Path(target).suffix != ENDING:
    raise UserError(
      f'{shown(target)}: a clip is written as MP4; give a name that ends in '
      f'{ENDING}'
    )
  plan = _plan(name, start, early, copies is not False)
  if copies and plan.key is None:
    raise VideoError(name, 'has pictures that have to be encoded again')
  with folders.replacing(target) as partial:
    last = _write(name, plan, end, partial, lines)
  return Saved(plan.start, last, plan.key is not None)


def _plan(path: str, start: float, early: float, copies: bool) -> _Plan:
  """Returns how to cut, from the pictures at and before the start."""
  with opened(path) as (container, stream):
    offset = Presentation(path, container, stream).start()
  for back in _BACK:
    with opened(path) as (container, stream):
      film = Presentation(path, container, stream)
      key, held = _last_two(_from(film, start, back), start)
      can_be_copied = copies and _is_reliable(container, stream)
    if held is None or (held.time > start and back is not None):
      continue
    if held.until <= start:
      raise VideoError(
        path,
        f'ends at second {held.until:.1f}, before the stretch from '
        f'{start:.1f} s on; give an earlier one',
      )
    if key and can_be_copied and (key is held or start - key.time <= early):
      ticks = key.frame.pts
      if _begins_at(path, ticks):
        return _Plan(max(key.time, 0.0), offset, ticks, back)
    return _Plan(start, offset, None, back)
  raise VideoError(
    path, 'has no picture that can be decoded; copy or encode it again'
  )


def _from(
  film: Presentation, start: float, back: float | None
) -> Iterator[Shown]:
  """Yields the pictures from a key frame at or before a time on."""
  if back is None or start <= back:
    return film.pictures()
  return film.near(start - back)


def _last_two(
  pictures: Iterator[Shown], start: float
) -> tuple[Shown | None, Shown | None]:
  """Returns the last key frame up to a time, and the picture shown then; the
  first picture if none is shown yet."""
  key, held = None, None
  for picture in clip_streams.lasting(pictures):
    if held and picture.time > start:
      break
    held = picture
    if picture.frame.key_frame and picture.frame.pts is not None:
      key = picture
    if picture.until > start:
      break
  return key, held


def _is_reliable(container: Any, stream: Any) -> bool:
  """Returns whether the packets of a file can go into an MP4 file as they
  are."""
  kinds = set(container.format.name.split(','))
  kind = stream.codec_context.codec.canonical_name
  return kind in _COPIED and bool(kinds & _CONTAINERS)


def _begins_at(path: str, ticks: int) -> bool:
  """Returns whether reading can begin with the packet of a key frame."""
  with opened(path) as (container, stream):
    container.seek(ticks, stream=stream)
    first = next(container.demux(stream))
    return first.is_keyframe and first.pts == ticks


def _write(
  path: str, plan: _Plan, end: float, partial: pathlib.Path, lines: int
) -> float:
  """Writes the stretch; returns the second at which its pictures end."""
  av = import_av()
  with contextlib.ExitStack() as stack:
    enter = stack.enter_context
    out = enter(_writing(av, partial))
    container, stream = enter(opened(path))
    clock = clip_streams.Clock(plan.start, end, plan.offset)
    if plan.key is not None:
      pictures = clip_streams.CopiedPictures(
        out, container, stream, clock, plan.key
      )
    else:
      film = Presentation(path, container, stream)
      pictures = clip_streams.EncodedPictures(
        out, _from(film, plan.start, plan.back), stream, clock, lines
      )
    sound = clip_streams.sound(out, path, clock, stack)
    tracks = heapq.merge(pictures, sound, key=lambda timed: timed[0])
    for _, packet in tracks:
      with _blaming(partial):
        out.mux(packet)
    with _blaming(partial):
      out.close()
  return pictures.end


@contextlib.contextmanager
def _writing(av: Any, partial: pathlib.Path) -> Iterator[Any]:
  """Gives an MP4 file that is open for writing."""
  with _blaming(partial):
    # Players can begin before they have the whole file.
    out = av.open(str(partial), 'w', options={'movflags': 'faststart'})
  try:
    yield out
  finally:
    with contextlib.suppress(av.error.FFmpegError):
      out.close()


@contextlib.contextmanager
def _blaming(partial: pathlib.Path) -> Iterator[None]:
  """Raises the errors of the block as ones of the file that is written."""
  av = import_av()
  try:
    yield
  except av.error.FFmpegError as error:
    if isinstance(error, OSError):
      raise OSError(error.errno, error.strerror, str(partial)) from error
    raise RuntimeError(f'{partial} cannot be written ({error})') from error
