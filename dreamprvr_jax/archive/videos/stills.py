"""Pictures to search by: files of still pictures, and samples of a clip."""

import io
import math
import os
import pathlib
import struct
import warnings
import zlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from dreamprvr_jax.archive.videos.clip_streams import lasting
from dreamprvr_jax.archive.videos.files import (
  MAX_PIXELS,
  VideoError,
  opened,
  shown,
)
from dreamprvr_jax.archive.videos.pixels import Pixels, Resize
from dreamprvr_jax.archive.videos.presentation import Presentation
from dreamprvr_jax.errors import UserError

# Pillow reads more, but some of those readers start other programs.
KINDS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'AVIF')
# What Pillow raises at a damaged file.
_DAMAGE = (
  *(OSError, SyntaxError, ValueError, EOFError),
  *(zlib.error, struct.error, Image.DecompressionBombError),
)
_WHITE = (255, 255, 255, 255)
# Samples of a clip, at most; a longer clip is sampled more rarely.
_SAMPLES = 64
# Decoding begins so many seconds before the start, as a file's index may lead
# too far; None: at the start of the file.
_BACK = (0.0, 10.0, None)


def read_still(
  source: os.PathLike[str] | str | bytes,
  where: str,
  *,
  kinds: tuple[str, ...] = KINDS,
  most: int | None = None,
) -> UInt8[np.ndarray, 'h w 3']:
  """Returns a picture, RGB, upright; see-through parts are white.

  Args:
    source: The file, or its content.
    where: What the picture is called in errors, such as '--image=FILE'.
    kinds: Kinds of files that are read, some of `KINDS`.
    most: Pixels of a picture, at most; `MAX_PIXELS` if None.

  Raises:
    UserError: If there is no such file, it is no picture, it is damaged, or it
      has too many pixels.
  """
  most = MAX_PIXELS if most is None else most
  if not isinstance(source, bytes) and not pathlib.Path(source).is_file():
    raise UserError(f'{where}: there is no such file')
  try:
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with warnings.catch_warnings():
      # The limit is ours, below.
      warnings.simplefilter('ignore', Image.DecompressionBombWarning)
      with Image.open(file, formats=kinds) as image:
        width, height = image.size
        if width * height <= most:
          return _rgb(ImageOps.exif_transpose(image))
  except UnidentifiedImageError:
    raise UserError(
      f'{where}: the file is no picture; give one of the kinds '
      f'{", ".join(kinds)}'
    ) from None
  except _DAMAGE as error:
    raise UserError(
      f'{where}: the picture cannot be read ({error}); it is damaged or '
      'truncated, copy or save it again'
    ) from None
  raise UserError(
    f'{where}: the picture has {width} x {height} pixels, more than the '
    f'{most:,} that are read; give a smaller one'
  )


def _rgb(image: Image.Image) -> UInt8[np.ndarray, 'h w 3']:
  """Returns the first picture of an open file."""
  if image.mode.startswith('I;16') or image.mode == 'I':
    # Pillow cuts off what is above 255; both kinds hold 16 bits.
    grey = (np.asarray(image).astype(np.float64) / 257).round()
    image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
  if image.has_transparency_data:
    above = image.convert('RGBA')
    image = Image.alpha_composite(Image.new('RGBA', above.size, _WHITE), above)
  return np.asarray(image.convert('RGB'))


def sample_clip(
  path: os.PathLike[str] | str,
  start: float,
  end: float,
  fps: float,
  resize: Resize,
) -> list[UInt8[np.ndarray, 'h w 3']]:
  """Returns pictures of a stretch of a video, at the times of `Video`.

  There is at least one, and at most 64: of more, every second or third is
  taken, and so on.

  Args:
    path: The video.
    start: Second at which the stretch begins.
    end: Second at which it ends; infinite for the end of the video.
    fps: Samples per second.
    resize: Returns the size of a sample for (height, width) as shown.

  Raises:
    UserError: If the stretch is empty, or PyAV is not installed.
    VideoError: If the video cannot be decoded, or ends before the stretch.
  """
  name = os.fspath(path)
  if not 0 <= start < end:
    raise UserError(
      f'the stretch {start:g}-{end:g} s of {shown(name)} is empty; give the '
      'second where it begins, from 0 on, and a later one where it ends'
    )
  for back in _BACK:
    found = _sampled(name, (start, end), fps, resize, back)
    if found:
      return found
  raise VideoError(
    name,
    f'has no picture from second {start:g} on; give an earlier stretch',
  )


def _sampled(
  path: str,
  span: tuple[float, float],
  fps: float,
  resize: Resize,
  back: float | None,
) -> list[UInt8[np.ndarray, 'h w 3']]:
  """Returns the samples; none if decoding begins too late.

  Args:
    path: The video.
    span: Start and end of the stretch.
    fps: See `sample_clip`.
    resize: See `sample_clip`.
    back: Seconds before the start at which decoding begins; None for the start
      of the file.
  """
  found: list[np.ndarray] = []
  with opened(path) as (container, stream):
    film, pixels = Presentation(path, container, stream), Pixels(stream)
    times = _times(path, span, fps, film.stated)
    near = 0.0 if back is None else span[0] - back
    from_start = near <= 0
    pictures = film.pictures() if from_start else film.near(near)
    shape = None
    for picture in lasting(pictures):
      if not found and picture.time > times[0] and not from_start:
        return []
      while times and times[0] < picture.until:
        shape = shape or resize(*pixels.shape(picture.frame))
        found.append(pixels.upright(picture.frame, *shape))
        times.pop(0)
      if not times:
        break
  return found


def _times(
  path: str, span: tuple[float, float], fps: float, stated: float
) -> list[float]:
  """Returns the seconds of the samples, by the grid of the whole file."""
  start, end = span
  last = min(end, stated) if stated > start else end
  if math.isinf(last):
    raise VideoError(
      path, 'does not state its length; give the stretch that is meant'
    )
  first = max(math.ceil(start * fps - 0.5), 0)
  count = max(math.ceil(last * fps - 0.5) - first, 0)
  if not count:
    return [(start + last) / 2]
  step = -(-count // _SAMPLES)
  return [(first + i + 0.5) / fps for i in range(0, count, step)]
