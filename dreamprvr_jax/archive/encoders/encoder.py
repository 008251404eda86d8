"""The interface of an encoder of pictures and sentences."""

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8


class Encoder(Protocol):
  """Makes features of pictures and of sentences.

  Attributes:
    name: Its kind.
    semantic: Whether its features describe content and meaning; if not, a
      retriever answers only queries that are worded like its captions.
    visual_width: Numbers of a frame's features.
    text_width: Numbers of a word's features.
  """

  name: str
  semantic: bool
  visual_width: int
  text_width: int

  @property
  def identity(self) -> dict[str, Any]:
    """A JSON object from which `from_identity` builds the same encoder."""
    ...

  def size(self, height: int, width: int) -> tuple[int, int]:
    """Returns the (height, width) that a picture of this size is scaled to for
    encoding."""
    ...

  def frames(
    self,
    images: UInt8[np.ndarray, 'n h w 3'],
    before: UInt8[np.ndarray, 'h w 3'] | None = None,
  ) -> Float[np.ndarray, 'n d']:
    """Returns float32 features of consecutive pictures.

    Args:
      images: RGB pictures of the size that `size` returns.
      before: The picture before the first; None if there is none.
    """
    ...

  def words(self, text: str) -> Float[np.ndarray, 'l e']:
    """Returns float32 features of each word, or part of a word, of a sentence;
    (0, e) if it is empty."""
    ...
