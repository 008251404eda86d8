"""A split's features in device memory, and the batches gathered from them.

Everything here is pure and traced: the device computes which rows make up a
batch, and no feature is copied from the host after the start.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt32

from dreamprvr_jax.devices import meshes
from dreamprvr_jax.types import Batch, DType

# (split, number, slots) -> batch
Gather = Callable[..., Batch]

_WORD = 2**32 - 1
# Where the two keys of the shuffle begin.
_SHUFFLE = (zlib.crc32(b'shuffle'), zlib.crc32(b'shuffle again'))


@struct.dataclass
class ResidentSplit:
  """v videos and n captions; frames and words end to end, without padding."""

  clips: Any  # (v, c, e)
  frames: Any  # (sum of frames, e)
  frame_starts: Any  # (v,) int32
  frame_counts: Any  # (v,) int32
  words: Any  # (sum of words, e')
  word_starts: Any  # (n,) int32
  word_counts: Any  # (n,) int32
  captions: Any  # (n,) int32, captions grouped by video
  caption_starts: Any  # (v,) int32, first of a video's group in `captions`
  caption_counts: Any  # (v,) int32
  max_frames: int = struct.field(pytree_node=False)
  max_words: int = struct.field(pytree_node=False)
  # (v, 2, c) int8, frames and group of each clip; None unless clips are merged
  clip_plan: Any = None

  @property
  def num_videos(self) -> int:
    """Videos of the split."""
    return self.frame_starts.shape[0]

  @property
  def num_captions(self) -> int:
    """Captions of the split."""
    return self.word_starts.shape[0]


def place(
  arrays: Mapping[str, np.ndarray],
  mesh: Mesh,
  *,
  max_frames: int,
  max_words: int,
  dtype: DType,
) -> ResidentSplit:
  """Returns the split with a whole copy on each device.

  Args:
    arrays: The array fields of `ResidentSplit`, in host memory; `clip_plan`
      only for merged clips.
    mesh: The device mesh.
    max_frames: Frames that a video is padded to.
    max_words: Words that a caption is padded to.
    dtype: Dtype of the stored features.
  """
  stored = {
    # Features that have the dtype are not copied.
    name: value.astype(dtype, copy=False)
    if jnp.issubdtype(value.dtype, jnp.floating)
    else value
    for name, value in arrays.items()
  }
  return ResidentSplit(
    **meshes.replicate(stored, mesh),
    max_frames=max_frames,
    max_words=max_words,
  )


def epoch_order(
  num_videos: int, seed: int, epoch: int | Int[Array, '']
) -> Int[Array, ' v']:
  """Returns the permutation of one epoch, int32, the same as that of
  `data_pipeline.batching.epoch_order`; `epoch` may be traced."""
  low, high = (
    _digest(
      start, seed & _WORD, seed >> 32 & _WORD, jnp.asarray(epoch, jnp.uint32)
    )
    for start in _SHUFFLE
  )
  position = jnp.arange(num_videos, dtype=jnp.uint32)
  return jnp.argsort(_mix(_mix(position + low) ^ high)).astype(jnp.int32)


def _digest(start: int, *words: int | UInt32[Array, '']) -> UInt32[Array, '']:
  """Returns 32 bits that depend on all words."""
  key = jnp.uint32(start)
  for word in words:
    key = _mix(key ^ jnp.uint32(word))
  return key


def _mix(x: UInt32[Array, '...']) -> UInt32[Array, '...']:
  """Returns the multiply-and-shift hash of 32-bit words (Wellons'
  lowbias32)."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
  x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
  return x ^ (x >> 16)


def train_batch(
  split: ResidentSplit,
  order: Int[Array, ' v'],
  step: int | Int[Array, ''],
  mesh: Mesh,
  *,
  batch_size: int,
  slots: int,
) -> Batch:
  """Returns batch `step` of the epoch whose permutation is `order`.

  Its rows are those of `data_pipeline.iterators.train_batch`. Each device
  gathers its own rows from its own copy of the split.

  Args:
    split: The training split.
    order: From `epoch_order`.
    step: The batch's number in its epoch; may be traced.
    mesh: The device mesh, over which rows are split.
    batch_size: b, videos of the global batch; behind the last video come
      padding rows.
    slots: n, size of the caption axis; at least the captions of the batch.
  """
  # Every device computes all indices and takes its share of them: features
  # are gathered where they are needed, and devices exchange nothing.
  put = jax.lax.with_sharding_constraint
  whole, share = meshes.replicated(mesh), meshes.by_row(mesh)
  row = step * batch_size + jnp.arange(batch_size)
  videos = jnp.where(row < split.num_videos, order.at[row].get(mode='clip'), -1)
  videos = put(videos, whole)
  counts = jnp.where(videos >= 0, split.caption_counts[videos], 0)
  ends = jnp.cumsum(counts)
  slot = jnp.arange(slots)
  # Every end against every slot: a search would be a loop of its own.
  owner = jnp.sum(slot[:, None] >= ends[None], axis=1, dtype=jnp.int32)
  real = slot < ends[-1]
  owner = jnp.where(real, owner, 0)
  first = split.caption_starts[videos] - (ends - counts)
  captions = jnp.where(real, split.captions[first[owner] + slot], -1)
  captions, owner = put((captions, owner), whole)
  videos, captions, owner = put((videos, captions, owner), share)
  return Batch(
    **read_videos(split, videos),
    **read_captions(split, captions),
    caption_video=owner,
  )


def compile_gather(
  mesh: Mesh, *, batch_size: int, steps_per_epoch: int, seed: int
) -> Gather:
  """Returns the program from (split, number, slots) to a batch.

  Batches are numbered from the start of training. `slots` is static; see
  `train_batch`.
  """

  def gather(split, number, slots):
    epoch, step = number // steps_per_epoch, number % steps_per_epoch
    return train_batch(
      split,
      epoch_order(split.num_videos, seed, epoch),
      step,
      mesh,
      batch_size=batch_size,
      slots=slots,
    )

  whole = meshes.replicated(mesh)
  return jax.jit(
    gather,
    in_shardings=(whole, whole),
    out_shardings=meshes.by_row(mesh),
    static_argnums=(2,),
  )


def read_videos(split: ResidentSplit, rows: Int[Array, ' b']) -> dict[str, Any]:
  """Returns the features of some videos; row -1 gives zeros.

  Returns:
    clip_features (b, c, e), frame_features (b, f, e) with zeros behind the
    last frame, frame_mask (b, f) bool, video_mask (b,) bool; for merged clips
    also clip_sizes and clip_groups (b, c) int32.
  """
  real = rows >= 0
  row = jnp.maximum(rows, 0)
  frames, mask = _ragged(
    split.frames,
    split.frame_starts[row],
    jnp.where(real, split.frame_counts[row], 0),
    split.max_frames,
  )
  arrays = {
    'clip_features': jnp.where(real[:, None, None], split.clips[row], 0),
    'frame_features': frames,
    'frame_mask': mask,
    'video_mask': real,
  }
  if split.clip_plan is not None:
    # Padding rows have clips of one size, each in its own group.
    clips = split.clips.shape[1]
    blank = jnp.stack(
      [jnp.full(clips, split.max_frames // clips), jnp.arange(clips)]
    )
    plan = jnp.where(real[:, None, None], split.clip_plan[row], blank)
    plan = plan.astype(jnp.int32)
    arrays |= {'clip_sizes': plan[:, 0], 'clip_groups': plan[:, 1]}
  return arrays


def read_captions(
  split: ResidentSplit, rows: Int[Array, ' n']
) -> dict[str, Any]:
  """Returns the features of some captions; row -1 gives zeros.

  Returns:
    word_features (n, l, e'), word_mask (n, l) bool, caption_mask (n,) bool.
  """
  real = rows >= 0
  row = jnp.maximum(rows, 0)
  words, mask = _ragged(
    split.words,
    split.word_starts[row],
    jnp.where(real, split.word_counts[row], 0),
    split.max_words,
  )
  return {'word_features': words, 'word_mask': mask, 'caption_mask': real}


def _ragged(
  values: Float[Array, 's e'],
  starts: Int[Array, ' b'],
  counts: Int[Array, ' b'],
  length: int,
) -> tuple[Float[Array, 'b l e'], Bool[Array, 'b l']]:
  """Returns stretches of `values`, padded with zeros, and their masks."""
  position = jnp.arange(length)[None]
  mask = position < counts[:, None]
  index = jnp.where(mask, starts[:, None] + position, 0)
  found = jnp.take(values, index, axis=0, mode='clip')
  return jnp.where(mask[..., None], found, 0), mask
