"""An encoded corpus: the order of its rows, and its parts.

Rows are split over the mesh's corpus axis. All devices encode a batch of
videos together. Devices at the same place on the corpus axis then exchange
what they encoded and append it to their rows, so tokens never leave their
column of the mesh. If the corpus axis is longer than one, rows are therefore
not in corpus order: `Part.items` has the video of each row.
"""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.types import VideoEncoding


@dataclasses.dataclass(frozen=True)
class Part:
  """Consecutive videos of a corpus, encoded.

  Attributes:
    videos: Leaves (rows, ...), split over the corpus axis; see `to_bits`.
    items: Video of each row, -1 for a padding row.
    first: The part's first video.
    end: The video behind its last one.
  """

  videos: VideoEncoding
  items: Int[np.ndarray, ' rows']
  first: int
  end: int


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a corpus is cut.

  Attributes:
    num_videos: Videos in the corpus.
    batch: Videos encoded at a time.
    batches: Batches in a part.
    parts: Parts, of which one at a time is in device memory.
    block: Videos scored at a time on a device.
    rows: Rows of a part on a device, a multiple of `block`.
  """

  num_videos: int
  batch: int
  batches: int
  parts: int
  block: int
  rows: int

  @classmethod
  def plan(
    cls,
    num_videos: int,
    batch: int,
    mesh: Mesh,
    *,
    largest_block: int,
    rows_in_memory: float,
  ) -> 'Layout':
    """Returns the layout with the fewest parts.

    Args:
      num_videos: Videos in the corpus.
      batch: Videos encoded at a time; the devices share it evenly.
      mesh: The device mesh.
      largest_block: Videos that may be scored at a time on a device.
      rows_in_memory: Encoded videos that fit into a device's memory; a part
        has at least one batch even if that is more.
    """
    share = batch // mesh.shape[meshes.CORPUS_AXIS]
    total = -(-num_videos // batch)
    blocks = -(-total * share // max(largest_block, 1))
    # The block does not depend on the number of parts: products then have the
    # same shapes, and scores the same bits.
    block = -(-total * share // blocks)
    parts = 1
    if blocks * block > rows_in_memory:
      fitting = int(rows_in_memory // block) * block // share
      parts = -(-total // max(fitting, 1))
    batches = -(-total // parts)
    parts = -(-total // batches)
    rows = -(-batches * share // block) * block
    return cls(num_videos, batch, batches, parts, block, rows)

  def bounds(self, part: int) -> tuple[int, int]:
    """Returns the part's first video and the one behind its last."""
    size = self.batches * self.batch
    return part * size, min((part + 1) * size, self.num_videos)

  def items(self, part: int, mesh: Mesh) -> Int[np.ndarray, ' rows']:
    """Returns the video of each row of all devices, -1 for padding."""
    first, end = self.bounds(part)
    data = mesh.shape[meshes.DATA_AXIS]
    corpus = mesh.shape[meshes.CORPUS_AXIS]
    videos = first + np.arange(self.batches * self.batch, dtype=np.int32)
    videos = np.where(videos < end, videos, -1)
    # A batch is split over the devices, the corpus axis running faster.
    held = videos.reshape(self.batches, data, corpus, -1).transpose(2, 0, 1, 3)
    held = held.reshape(corpus, -1)
    short = self.rows - held.shape[1]
    return np.pad(held, ((0, 0), (0, short)), constant_values=-1).ravel()


def to_bits(videos: VideoEncoding) -> VideoEncoding:
  """Returns an encoding with bfloat16 numbers as 16-bit integers.

  To read or write a slice of a bfloat16 array, XLA's CPU backend widens the
  whole array. It does not do that to integers.
  """
  return jax.tree.map(
    lambda x: (
      jax.lax.bitcast_convert_type(x, jnp.uint16)
      if x.dtype == jnp.bfloat16
      else x
    ),
    videos,
  )


def from_bits(stored: VideoEncoding) -> VideoEncoding:
  """Returns the encoding that `to_bits` was given."""
  return jax.tree.map(
    lambda x: (
      jax.lax.bitcast_convert_type(x, jnp.bfloat16)
      if x.dtype == jnp.uint16
      else x
    ),
    stored,
  )


class EncodedCorpus:
  """The parts of a corpus.

  Every iteration encodes them again, unless there is only one part, which is
  kept. A part is valid until the next one is read, which reuses its memory.
  """

  def __init__(
    self, layout: Layout, encode: Callable[[], Iterator[Part]], mesh: Mesh
  ):
    self.layout = layout
    self._encode = encode
    self._kept: Part | None = None
    self._gather = jax.jit(
      lambda videos, rows: from_bits(jax.tree.map(lambda x: x[rows], videos)),
      out_shardings=meshes.replicated(mesh),
    )

  def __iter__(self) -> Iterator[Part]:
    if self._kept is not None:
      yield self._kept
      return
    for part in self._encode():
      if self.layout.parts == 1:
        self._kept = part
      yield part

  def whole(self) -> Iterator[VideoEncoding]:
    """Yields all encoded videos in corpus order, part by part; numpy."""
    for part in self:
      rows = np.argsort(part.items, kind='stable')
      rows = rows[np.sum(part.items < 0) :].astype(np.int32)
      yield jax.tree.map(np.asarray, self._gather(part.videos, rows))

  def take(self, videos: Int[np.ndarray, ' k']) -> VideoEncoding:
    """Returns the encoding of a few videos, numpy."""
    found = []
    for part in self:
      # A video of another part gets row 0, which is not used below.
      rows = np.argmax(part.items == videos[:, None], axis=1)
      found.append(jax.tree.map(np.asarray, self._gather(part.videos, rows)))
    number = videos // (self.layout.batches * self.layout.batch)
    return jax.tree.map(
      lambda *x: np.stack(x)[number, np.arange(len(videos))], *found
    )
