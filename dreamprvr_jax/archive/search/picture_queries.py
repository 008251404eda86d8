"""Queries that are pictures or clips.

With a retriever that reads sentences, the vector of the picture stands for the
sentence: both are in the encoder's one space. With a trained model, the picture
or clip is encoded as a video, and its frame tokens, which queries are compared
with, make the query. In both cases several vectors become their mean: each at
length 1, and the mean at length 1 again.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from dreamprvr_jax.archive.encoders import Encoder
from dreamprvr_jax.archive.index.encoding import rows_of
from dreamprvr_jax.archive.search.timelines import unit
from dreamprvr_jax.archive.videos.stills import read_still, sample_clip
from dreamprvr_jax.errors import UserError
from dreamprvr_jax.trained.retriever import Retriever

Picture = UInt8[np.ndarray, 'h w 3']


class PictureQueries:
  """Encodes pictures and clips."""

  def __init__(self, retriever: Retriever, encoder: Encoder):
    """Args:
      retriever: The retriever of the index.
      encoder: The encoder that made the features of its videos.

    Raises:
      UserError: If the retriever's score needs the words of a query, or its
        videos have features of another width.
    """
    self._retriever, self._encoder = retriever, encoder
    if not retriever.is_plain:
      raise UserError(
        f'{type(retriever.model).__name__} compares the words of a query one '
        'by one, so it cannot search for a picture; give a sentence, or index '
        'the videos with another model'
      )
    width = retriever.stored['visual_width']
    if encoder.visual_width != width:
      raise UserError(
        f'the encoder {encoder.name} makes features of width '
        f'{encoder.visual_width} of a picture, but the videos of the index '
        f'have {width}; give the encoder that made them with --encoder'
      )

  def picture(self, picture: Picture) -> Float[np.ndarray, ' q']:
    """Returns the encoded query of a picture of any size, float32; see
    `Index.search_encoded`."""
    return self.encoded(self._encoder.pictures([picture]))

  def file(
    self, source: str | bytes, where: str = 'the picture'
  ) -> Float[np.ndarray, ' q']:
    """Returns the encoded query of a picture's file, or of its content.

    Args:
      source: See `read_still`.
      where: See `read_still`.

    Raises:
      UserError: See `read_still`.
    """
    return self.picture(read_still(source, where))

  def clip(
    self, path: str, start: float, end: float, fps: float = 2.0
  ) -> Float[np.ndarray, ' q']:
    """Returns the encoded query of a stretch of a video.

    Args:
      path: The video.
      start: Second at which the stretch begins.
      end: Second at which it ends; infinite for the end of the video.
      fps: Samples per second; those of the index are best.

    Raises:
      UserError, VideoError: See `sample_clip`.
    """
    decoded = sample_clip(path, start, end, fps, self._encoder.size)
    pictures = np.stack([self._encoder.prepare(image) for image in decoded])
    return self.encoded(self._encoder.frames(pictures))

  def encoded(
    self, features: Float[np.ndarray, 'n d']
  ) -> Float[np.ndarray, ' q']:
    """Returns the encoded query of the features of consecutive pictures."""
    if self._retriever.model.reads == 'sentence':
      return mean_direction(features)
    rows = rows_of(self._retriever, features)
    return mean_direction(rows['frame_tokens'][rows['frame_mask']])


def mean_direction(
  vectors: Sequence[np.ndarray] | Float[np.ndarray, 'n d'],
) -> Float[np.ndarray, ' d']:
  """Returns the mean of vectors, each at length 1, at length 1, float32."""
  return unit(unit(np.asarray(vectors)).mean(axis=0))
