"""The interface of an encoder of pictures and sentences."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8


class Encoder(Protocol):
  """Makes features of pictures and of sentences.

  Attributes:
    name: Its kind.
    semantic: Whether its features describe content and meaning; if not, a
      retriever answers only queries that are worded like its captions.
    shared: Whether pictures and sentences have vectors in one space, so that a
      sentence can be compared with a picture.
    on_device: Whether it computes on JAX's devices. Then one process encodes,
      and others prepare pictures ahead of it.
    batch: Pictures that it encodes at a time.
    visual_width: Numbers of a frame's features.
    text_width: Numbers of a word's features.
  """

  name: str
  semantic: bool
  shared: bool
  on_device: bool
  batch: int
  visual_width: int
  text_width: int

  @property
  def identity(self) -> dict[str, Any]:
    """A JSON object from which `from_identity` builds the same encoder."""
    ...

  # The next two are sent to processes that decode, so they pickle without
  # weights.
  def size(self, height: int, width: int) -> tuple[int, int]:
    """Returns the (height, width) to which a picture of this size is decoded
    for `prepare`."""
    ...

  def prepare(
    self, image: UInt8[np.ndarray, 'h w 3']
  ) -> UInt8[np.ndarray, 's t 3']:
    """Returns a decoded picture in the size that `frames` takes."""
    ...

  def frames(
    self,
    images: UInt8[np.ndarray, 'n s t 3'],
    before: UInt8[np.ndarray, 's t 3'] | None = None,
  ) -> Float[np.ndarray, 'n d']:
    """Returns float32 features of consecutive pictures.

    Args:
      images: RGB pictures that `prepare` returned.
      before: The picture before the first; None if there is none.
    """
    ...

  def pictures(
    self, images: Sequence[UInt8[np.ndarray, 'h w 3']]
  ) -> Float[np.ndarray, 'n d']:
    """Returns float32 features of still pictures, as `frames` has them.

    Args:
      images: RGB pictures, each of any size.
    """
    ...

  def words(self, text: str) -> Float[np.ndarray, 'l e']:
    """Returns float32 features of each word, or part of a word, of a sentence;
    (0, e) if it is empty."""
    ...

  def sentence(self, text: str) -> Float[np.ndarray, ' d']:
    """Returns the float32 vector of a sentence in the space of the pictures;
    its length is 1.

    Raises:
      DataError: If the encoder has no such space, or the sentence is empty.
    """
    ...
