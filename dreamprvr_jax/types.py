"""Structs that several folders of the package share.

Axis letters, used in every annotation: b videos in a batch, n caption slots
in a batch, l words, c clips, f frames, d width, e input width, h heads, k head
width, r registers, t diffusion steps, a parallel blocks, v corpus videos.
Masks are boolean; True means real.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.errors import UserError

# A dtype, its name, or anything that numpy accepts as one.
DType = Any


@struct.dataclass
class Batch:
  """One training batch of static shape; padding rows are zero and masked.

  The arrays are of jax or numpy.
  """

  clip_features: Float[Array, 'b c e']
  frame_features: Float[Array, 'b f e']
  frame_mask: Bool[Array, 'b f']
  video_mask: Bool[Array, ' b']
  word_features: Float[Array, 'n l e']
  word_mask: Bool[Array, 'n l']
  caption_mask: Bool[Array, ' n']
  caption_video: Int[Array, ' n']  # int32, row of the caption's video
  # Only where clips are merged frames (MSC): the frames of each clip, and the
  # merged clip that each clip belongs to, from 0; int32
  clip_sizes: Int[Array, 'b c'] | None = None
  clip_groups: Int[Array, 'b c'] | None = None

  @classmethod
  def from_dict(cls, arrays: Mapping[str, Any]) -> 'Batch':
    """Returns the batch of these arrays, by the names of its fields."""
    names = cls.__dataclass_fields__
    return cls(**{name: arrays[name] for name in names if name in arrays})


@struct.dataclass
class VideoEncoding:
  """What retrieval needs of a video, whatever the model."""

  clip_tokens: Float[Array, 'b c d']
  # zero at padded frames, or the last real token (`Model.repeats_padding`)
  frame_tokens: Float[Array, 'b f d']
  frame_mask: Bool[Array, 'b f']
  # Only of models whose score reads them (`Model.reads_registers`)
  registers: Float[Array, 'b r d'] | None = None
  # Only of models whose score reads them (`Model.reads_features`); unit length
  frame_features: Float[Array, 'b f e'] | None = None


@struct.dataclass
class BranchScores:
  """Scores of queries (rows) with videos (columns) by branch; float32."""

  clip: Float[Array, 'n b']
  frame: Float[Array, 'n b']
  # What the fused score has besides, already weighted (TRACE)
  addition: Float[Array, 'n b'] | None = None


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
