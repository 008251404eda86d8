"""What happens to a picture before a tower sees it: resizing and cropping by
Pillow, as transformers' image processors do it; see docs/extraction.md."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from data_pipeline.errors import DataError
from dreamprvr_jax.archive.encoders.architecture import read_object

FILES = ('preprocessor_config.json', 'processor_config.json')
_BICUBIC = 3
# Longer edge over the shorter one, at most, of a picture that is scaled before
# its middle is cut out: a strip of few pixels would become gigabytes.
_LONGEST = 64
_DEFAULTS: dict[str, dict[str, Any]] = {
  'clip': {
    'size': {'shortest_edge': 224},
    'do_center_crop': True,
    'crop_size': {'height': 224, 'width': 224},
    'image_mean': [0.48145466, 0.4578275, 0.40821073],
    'image_std': [0.26862954, 0.26130258, 0.27577711],
  },
  'siglip': {
    'size': {'height': 224, 'width': 224},
    'do_center_crop': False,
    'crop_size': None,
    'image_mean': [0.5, 0.5, 0.5],
    'image_std': [0.5, 0.5, 0.5],
  },
}


@dataclasses.dataclass(frozen=True)
class Preparation:
  """How pictures are made ready; plain values for other processes.

  Attributes:
    side: Pixels of an edge of the prepared picture, a square.
    shortest: Pixels of the shorter edge before the middle is cut out; 0 to
      scale both edges to `side` without keeping their ratio.
    resample: Pillow's number of the filter.
    scale: Pixels are multiplied with it.
    mean: Subtracted then, by channel.
    deviation: Divided by then, by channel.
  """

  side: int
  shortest: int
  resample: int
  scale: float
  mean: tuple[float, float, float]
  deviation: tuple[float, float, float]

  @classmethod
  def read(cls, folder: pathlib.Path, network: str) -> 'Preparation':
    """Returns the preparation of a model's folder.

    Args:
      folder: A folder in the hub's layout.
      network: 'clip' or 'siglip', whose defaults missing keys have.

    Raises:
      DataError: If the file is missing or damaged, or asks for something else
        than resizing, a crop in the middle and normalisation.
    """
    path = next((folder / n for n in FILES if (folder / n).exists()), None)
    path = path or folder / FILES[0]
    found = read_object(path)
    # The file of a whole processor has the pictures' part inside.
    found = found.get('image_processor', found)
    try:
      return cls._made({**_DEFAULTS[network], **found})
    except (TypeError, ValueError, KeyError) as error:
      raise DataError(
        f'{path} has a key that is missing or unusable ({error}); download the '
        'model again'
      ) from None

  @classmethod
  def _made(cls, found: Mapping[str, Any]) -> 'Preparation':
    for key in ('do_resize', 'do_rescale', 'do_normalize'):
      if found.get(key) is False:
        raise ValueError(f'{key}=false, but the picture is needed so')
    size, shortest = found['size'], 0
    if isinstance(size, int):
      # Old files: with a crop, that is the shorter edge.
      key = 'shortest_edge' if found['do_center_crop'] else 'height'
      size = {key: size, 'width': size}
    if 'shortest_edge' in size:
      side = shortest = int(size['shortest_edge'])
    else:
      side = _square(size, 'size')
    if found['do_center_crop']:
      crop = found['crop_size'] or side
      crop = _square(crop, 'crop_size') if isinstance(crop, dict) else int(crop)
      if crop > side:
        raise ValueError(f'crop_size={crop} is above the size {side}')
      side, shortest = crop, shortest or side * (crop != side)
    elif shortest:
      raise ValueError('shortest_edge without a crop leaves no square')
    resample = int(found.get('resample', _BICUBIC))
    return cls(
      side,
      shortest,
      PIL.Image.Resampling(resample).value,
      float(found.get('rescale_factor', 1 / 255)),
      _channels(found['image_mean']),
      _channels(found['image_std']),
    )

  def size(self, height: int, width: int) -> tuple[int, int]:
    """Returns the size to which a picture is decoded: its own, because only
    Pillow's filter gives the features that others compute."""
    return height, width

  def prepare(
    self, image: UInt8[np.ndarray, 'h w 3']
  ) -> UInt8[np.ndarray, 's s 3']:
    """Returns a picture resized and cut to a square of `side` pixels."""
    height, width = image.shape[:2]
    if self.shortest:
      least = min(height, width)
      image = _middle(
        image, *(min(x, _LONGEST * least) for x in (height, width))
      )
      height, width = image.shape[:2]
      # Rounded down, as in transformers.
      height, width = (
        self.shortest if edge == least else int(self.shortest * edge / least)
        for edge in (height, width)
      )
    else:
      height = width = self.side
    if image.shape[:2] != (height, width):
      picture = PIL.Image.fromarray(np.ascontiguousarray(image))
      image = np.asarray(picture.resize((width, height), self.resample))
    return _middle(image, self.side, self.side)

  def normal(self, images: Any) -> Any:
    """Returns (n, s, s, 3) float32, prepared pictures as numbers around 0.

    Args:
      images: (n, s, s, 3) uint8, of NumPy or JAX.
    """
    mean, deviation = (
      np.asarray(row, np.float32) for row in (self.mean, self.deviation)
    )
    pixels = images.astype(np.float32) * np.float32(self.scale)
    return (pixels - mean) / deviation


def _middle(
  image: UInt8[np.ndarray, 'h w 3'], height: int, width: int
) -> UInt8[np.ndarray, 's t 3']:
  """Returns the middle of a picture."""
  top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
  return image[top : top + height, left : left + width]


def _square(size: Mapping[str, Any], what: str) -> int:
  edges = {int(size['height']), int(size['width'])}
  if len(edges) > 1:
    raise ValueError(f'{what}={dict(size)} is no square')
  return edges.pop()


def _channels(values: Any) -> tuple[float, float, float]:
  red, green, blue = (float(value) for value in values)
  return red, green, blue
