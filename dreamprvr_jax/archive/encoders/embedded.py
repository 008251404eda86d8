"""An encoder without weights, in plain NumPy: statistics and hashes.

It needs no download and gives the same numbers everywhere. Features of a
picture describe its look (colours, edges, motion), not its content; those of a
word describe its spelling.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

from data_pipeline.errors import DataError

_SIDE = 64
_CELLS = 4
_ANGLES = 8
# Levels of each colour in the histogram.
_LEVELS = 4
_WORD_BITS = 256
_GRAMS = (3, 4, 5)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Incremented with any change of the numbers.
_VERSION = 1


class Embedded:
  """See `Encoder`."""

  name = 'embedded'
  semantic = False
  shared = False
  on_device = False
  batch = 32
  # Means, spreads and motion of each cell, colours, edges of each cell.
  visual_width = _CELLS**2 * (3 + 1 + 2 + _ANGLES) + _LEVELS**3
  text_width = _WORD_BITS

  @property
  def identity(self) -> dict[str, Any]:
    """See Encoder."""
    return {
      'name': self.name,
      'semantic': self.semantic,
      'version': _VERSION,
      'visual_width': self.visual_width,
      'text_width': self.text_width,
    }

  def size(self, height: int, width: int) -> tuple[int, int]:
    """See Encoder."""
    del height, width
    return _SIDE, _SIDE

  def prepare(
    self, image: UInt8[np.ndarray, 'h w 3']
  ) -> UInt8[np.ndarray, 'h w 3']:
    """See Encoder; a picture is decoded in the right size."""
    return image

  def frames(
    self,
    images: UInt8[np.ndarray, 'n h w 3'],
    before: UInt8[np.ndarray, 'h w 3'] | None = None,
  ) -> Float[np.ndarray, 'n d']:
    """See Encoder."""
    first = images[:1] if before is None else before[None]
    colour = np.concatenate([first, images]).astype(np.float32) / 255
    grey = colour @ _LUMA
    moved = np.diff(grey, axis=0)
    colour, grey = colour[1:], grey[1:]
    means = _cells(colour).mean(axis=3).reshape(len(images), -1)
    parts = [
      means - means.mean(axis=1, keepdims=True),
      _cells(grey[..., None]).std(axis=3).reshape(len(images), -1),
      _cells(np.stack([abs(moved), moved], -1)).mean(axis=3),
      np.sqrt(_histogram(images)),
      _edges(grey),
    ]
    scaled = [_unit(part.reshape(len(images), -1)) for part in parts]
    return np.concatenate(scaled, axis=1).astype(np.float32)

  def pictures(
    self, images: Sequence[UInt8[np.ndarray, 'h w 3']]
  ) -> Float[np.ndarray, 'n d']:
    """See Encoder. They stand still: the parts for motion are 0."""
    scaled = [
      PIL.Image.fromarray(np.ascontiguousarray(image)).resize(
        (_SIDE, _SIDE), PIL.Image.Resampling.BICUBIC
      )
      for image in images
    ]
    rows = [self.frames(np.asarray(image)[None]) for image in scaled]
    return np.concatenate([np.zeros((0, self.visual_width), np.float32), *rows])

  def sentence(self, text: str) -> NoReturn:
    """See Encoder."""
    raise DataError(
      f'the encoder embedded cannot compare the sentence {text!r} with '
      'pictures: it knows only their looks; ask with a picture, or use '
      '--encoder=siglip2, siglip or clip'
    )

  def words(self, text: str) -> Float[np.ndarray, 'l e']:
    """See Encoder."""
    found = re.findall(r'\w+', text.casefold()) or text.split()
    rows = [_word(word) for word in found]
    return np.array(rows, np.float32).reshape(-1, _WORD_BITS)


def _cells(x: Float[np.ndarray, 'n h w c']) -> Float[np.ndarray, 'n g g p c']:
  """Returns the p pixels of each of the g x g cells of a picture."""
  count, height, width, depth = x.shape
  tall, wide = height // _CELLS, width // _CELLS
  parts = x.reshape(count, _CELLS, tall, _CELLS, wide, depth)
  return parts.transpose(0, 1, 3, 2, 4, 5).reshape(
    count, _CELLS, _CELLS, tall * wide, depth
  )


def _histogram(images: UInt8[np.ndarray, 'n h w 3']) -> np.ndarray:
  """Returns (n, levels ** 3), the share of each colour."""
  levels = images.astype(np.int64) * _LEVELS // 256
  bins = (levels[..., 0] * _LEVELS + levels[..., 1]) * _LEVELS + levels[..., 2]
  counts = [np.bincount(b.ravel(), minlength=_LEVELS**3) for b in bins]
  return np.array(counts) / bins[0].size


def _edges(grey: Float[np.ndarray, 'n h w']) -> np.ndarray:
  """Returns (n, g, g, angles), the strength of edges by cell and angle."""
  down, across = np.gradient(grey, axis=(1, 2))
  angle = np.arctan2(down, across) % np.pi
  which = np.minimum((angle / np.pi * _ANGLES).astype(int), _ANGLES - 1)
  strength = np.hypot(down, across)[..., None] * np.eye(_ANGLES)[which]
  return _cells(strength).mean(axis=3)


def _unit(x: Float[np.ndarray, 'n d']) -> np.ndarray:
  """Returns rows of length 1; a row of zeros stays zero."""
  return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)


def _word(word: str) -> np.ndarray:
  """Returns the (e,) vector of a word: a sum over the word and its parts, so
  that words with one stem are similar."""
  marked = f'<{word}>'
  parts = [
    marked[i : i + n] for n in _GRAMS for i in range(len(marked) - n + 1)
  ]
  whole = len(parts) ** 0.5 * _signs(word)
  total = sum((_signs(part) for part in parts), whole)
  return total / np.linalg.norm(total)


def _signs(part: str) -> np.ndarray:
  """Returns (e,) pseudo-random signs, +1 or -1, from a hash of the text."""
  digest = hashlib.blake2b(
    part.encode('utf-8', 'surrogatepass'), digest_size=_WORD_BITS // 8
  ).digest()
  bits = np.unpackbits(np.frombuffer(digest, np.uint8))
  return bits.astype(np.float64) * 2 - 1
