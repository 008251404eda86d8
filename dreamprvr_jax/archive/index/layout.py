"""The files of a segment: names, arrays, ids, and sources of its videos.

Tokens of int8 are a byte per number, a code, and a scale per token.
"""

import math
import os
import pathlib
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int8

from dreamprvr_jax import text
from dreamprvr_jax.archive.index.files import DamagedError, open_regular
from dreamprvr_jax.archive.index.manifest import SIZES, Manifest

IDS = 'ids.json'
SOURCES = 'sources.json'
# Sizes and checksums of the files that a part of a batch job wrote, until the
# manifest has them.
CHECKSUMS = 'checksums.json'
BRANCHES = 'clip', 'frame'
# Product codes, which earlier versions wrote. They are not read.
PRODUCTS = frozenset(
  f'{branch}_{what}.npy'
  for branch in BRANCHES
  for what in ('products', 'codebook')
)
# All files that a segment may have.
FILES = PRODUCTS | frozenset(
  [
    IDS,
    SOURCES,
    CHECKSUMS,
    *('starts.npy', 'durations.npy', 'cores.npy', 'registers.npy'),
    *('clip_edges.npy', 'frame_edges.npy', 'frame_mask.npy'),
    *(
      f'{branch}_{what}.npy'
      for branch in BRANCHES
      for what in ('tokens', 'codes', 'scales')
    ),
  ]
)
# Codes of int8 are from -127 to 127.
_GREATEST = 127


def quantize(
  tokens: Float[np.ndarray, '... d'],
) -> tuple[Int8[np.ndarray, '... d'], Float[np.ndarray, '...']]:
  """Returns (codes, scales) such that codes * scales are about the tokens.

  The entry of greatest size of a token becomes 127 or -127, others are
  rounded to the nearest step: no entry is off by more than half a scale. A
  zero token has the scale 0.
  """
  scales = np.max(np.abs(tokens), axis=-1).astype(np.float32) / _GREATEST
  steps = np.where(scales > 0, scales, 1)[..., None]
  return np.rint(tokens / steps).astype(np.int8), scales


def dequantize(
  codes: Int8[np.ndarray, '... d'], scales: Float[np.ndarray, '...']
) -> Float[np.ndarray, '... d']:
  """Returns the tokens that codes stand for, float32; numpy or JAX."""
  return codes.astype(np.float32) * scales[..., None]


def array_specs(manifest: Manifest) -> dict[str, tuple[tuple[int, ...], Any]]:
  """Returns {name: (shape of a row, dtype)} of the arrays of an index's
  segments; see `row_specs`."""
  return row_specs(manifest.tokens, manifest.sizes, parts=manifest.parts)


def row_specs(
  tokens: str, sizes: Mapping[str, int], *, parts: bool
) -> dict[str, tuple[tuple[int, ...], Any]]:
  """Returns {name: (shape of a row, dtype)} of the arrays of a segment.

  A row stands for a stretch of its video. It begins at `starts`, in seconds of
  the file, and lasts `durations` seconds, NaN where unknown. `clip_edges` and
  `frame_edges` are the borders of clips and frames as fractions of the stretch,
  1 at padded frames. `cores` are the two fractions between which the row says
  how well the video fits, because stretches may overlap. If the manifest has no
  `parts`, the stretch is the video, and real frames share it evenly.

  Padded frames change no maximum: their tokens are zero, or repeat another one.
  `_codes` times `_scales` are tokens, too. `registers` exist if the model has
  them.

  Args:
    tokens: One of `manifest.TOKENS`.
    sizes: See `Manifest.sizes`.
    parts: See `Manifest`.
  """
  clips, frames, width, registers = (sizes[name] for name in SIZES)
  specs: dict[str, tuple[tuple[int, ...], Any]] = {
    'durations': ((), np.float64),
    'clip_edges': ((clips + 1,), np.float32),
    'frame_mask': ((frames,), np.bool_),
  }
  if parts:
    specs['starts'] = ((), np.float64)
    specs['frame_edges'] = ((frames + 1,), np.float32)
    specs['cores'] = ((2,), np.float32)
  for branch, count in (('clip', clips), ('frame', frames)):
    if 'float16' in tokens:
      specs[f'{branch}_tokens'] = ((count, width), np.float16)
    if 'int8' in tokens:
      specs[f'{branch}_codes'] = ((count, width), np.int8)
      specs[f'{branch}_scales'] = ((count,), np.float32)
  if registers:
    specs['registers'] = ((registers, width), np.float16)
  return specs


def stored_bytes(manifest: Manifest) -> int:
  """Returns the bytes of all arrays of an index, with removed rows."""
  rows = sum(segment.rows for segment in manifest.segments)
  return rows * sum(
    math.prod(shape) * np.dtype(dtype).itemsize
    for shape, dtype in array_specs(manifest).values()
  )


class Sources:
  """What a segment says of the files of its videos; stays open.

  If the file is removed meanwhile, it is still read.
  """

  def __init__(self, folder: pathlib.Path):
    """Opens the file of a segment, if there is one.

    Raises:
      DamagedError: If it is a link, or no file.
    """
    self._path = folder / SOURCES
    self._file = None
    if self._path.exists() or self._path.is_symlink():
      self._file = open_regular(self._path)
      weakref.finalize(self, os.close, self._file)

  def read(self) -> list[dict[str, Any]]:
    """Returns a row for each file, with the `id` of its video, in order.

    Raises:
      UserError: If the file is damaged.
    """
    if self._file is None:
      return []
    content = os.pread(self._file, os.fstat(self._file).st_size, 0)
    where = f'the index is damaged: {self._path}'
    found = text.parse_json(text.decode(content, where), where)
    if not isinstance(found, list):
      raise DamagedError(self._path, 'is no list of files')
    for row in found:
      if not isinstance(row, dict) or not isinstance(row.get('id'), str):
        raise DamagedError(
          self._path, f'has {row!r:.40} where a file was expected'
        )
    return found


def read_ids(path: pathlib.Path) -> list[str]:
  """Returns the ids in a segment's file, in NFC.

  Raises:
    UserError: If they cannot be read.
  """
  with open(open_regular(path), 'rb') as file:
    content = file.read()
  where = f'the index is damaged: {path}'
  found = text.parse_json(text.decode(content, where), where)
  if not isinstance(found, list):
    raise DamagedError(path, 'is no list of ids')
  for value in found:
    if not isinstance(value, str):
      raise DamagedError(path, f'has {value!r:.40} where an id was expected')
  return [x if x.isascii() else text.check(x, where) for x in found]
