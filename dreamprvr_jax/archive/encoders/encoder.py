"""What an encoder of pictures and sentences can do."""

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8


class Encoder(Protocol):
  """Makes features of pictures and of sentences.

  Attributes:
    name: What kind it is.
    semantic: Whether its features say what is seen and meant; if not, a
      retriever learns only from captions like those that it is asked.
    visual_width: Of a frame's features.
    text_width: Of a word's features.
  """

  name: str
  semantic: bool
  visual_width: int
  text_width: int

  @property
  def identity(self) -> dict[str, Any]:
    """JSON from which `from_identity` makes it again."""
    ...

  def size(self, height: int, width: int) -> tuple[int, int]:
    """Returns (height, width) to which a picture of this size is scaled before
    it is encoded."""
    ...

  def frames(
    self,
    images: UInt8[np.ndarray, 'n h w 3'],
    before: UInt8[np.ndarray, 'h w 3'] | None = None,
  ) -> Float[np.ndarray, 'n d']:
    """Returns float32 features of pictures that follow one another.

    Args:
      images: RGB, of the size that `size` says.
      before: The one before the first; None: there is none.
    """
    ...

  def words(self, text: str) -> Float[np.ndarray, 'l e']:
    """Returns float32 features of each word, or part of a word, of a sentence;
    (0, e) of one that is empty."""
    ...
