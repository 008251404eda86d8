"""Structs that travel between the rooms of the package.

Axis letters, used in every annotation: b videos in a batch, n caption slots
in a batch, l words, c clips, f frames, d width, e input width, h heads, k head
width, r registers, t diffusion steps, a parallel blocks, v corpus videos.
A mask is boolean and True means real.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from dreamprvr_jax.errors import UserError

# A dtype, its name, or anything numpy understands as one.
DType = Any


@struct.dataclass
class Batch:
  """One training batch of static shape; padding rows are zero and masked."""

  clip_features: Any  # (b, c, e) float32
  frame_features: Any  # (b, f, e) float32
  frame_mask: Any  # (b, f) bool
  video_mask: Any  # (b,) bool
  word_features: Any  # (n, l, e') float32
  word_mask: Any  # (n, l) bool
  caption_mask: Any  # (n,) bool
  caption_video: Any  # (n,) int32, row of the caption's video
  # Of corpora whose clips are merged frames (MSC), else None
  clip_sizes: Any = None  # (b, c) int32, frames of each clip
  clip_groups: Any = None  # (b, c) int32, merged clip of each clip, from 0

  @classmethod
  def from_dict(cls, arrays: Mapping[str, Any]) -> 'Batch':
    """Returns the batch that holds `arrays`; what has no default must be
    there."""
    names = cls.__dataclass_fields__
    return cls(**{name: arrays[name] for name in names if name in arrays})


@struct.dataclass
class VideoEncoding:
  """What retrieval needs of a video, whatever the model."""

  clip_tokens: Any  # (b, c, d)
  frame_tokens: Any  # (b, f, d), zero at padded frames
  frame_mask: Any  # (b, f) bool


@struct.dataclass
class BranchScores:
  """Cosine scores of queries (rows) against videos (columns) by branch."""

  clip: Any  # (n, b) float32
  frame: Any  # (n, b) float32


@struct.dataclass
class Similarities:
  """Both kinds of score that training needs.

  Source: docs/method.md, "Cosine and raw scores".
  """

  cosine: BranchScores  # s: for retrieval and for the triplet losses
  raw: BranchScores  # s~: un-normalised dot products, for the NCE losses


def dtype_of(name: str) -> DType:
  """Returns the compute dtype called `name`: 'float32' or 'bfloat16'."""
  dtypes = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}
  if name not in dtypes:
    raise UserError(
      f'compute dtype {name!r} is unknown; choose one of {sorted(dtypes)}'
    )
  return dtypes[name]


def parameter_count(tree: Any) -> int:
  """Returns the number of scalars in a tree of arrays."""
  return sum(leaf.size for leaf in jax.tree.leaves(tree))
