"""The shapes of a model's variables, without their values."""

import functools
from typing import Any

import jax
import numpy as np

from dreamprvr_jax.models.contract import Model
from dreamprvr_jax.types import Batch


def blank_batch(
  visual_width: int,
  text_width: int,
  *,
  num_clips: int,
  max_frames: int,
  max_words: int,
  merged: bool = False,
) -> Batch:
  """Returns a batch of two videos and two captions, all zero but the masks.

  It serves to create a model's variables, which depend on widths and lengths.
  With `merged` all clips have one size, and each is its own group.
  """
  b = n = 2
  plan = {}
  if merged:
    plan = {
      'clip_sizes': np.full((b, num_clips), max_frames // num_clips, np.int32),
      'clip_groups': np.tile(np.arange(num_clips, dtype=np.int32), (b, 1)),
    }
  # Arrays of JAX would each be made by a program that is compiled first.
  zeros = lambda *shape: np.zeros(shape, np.float32)
  return Batch.from_dict(
    {
      **plan,
      'clip_features': zeros(b, num_clips, visual_width),
      'frame_features': zeros(b, max_frames, visual_width),
      'frame_mask': np.ones((b, max_frames), bool),
      'video_mask': np.ones((b,), bool),
      'word_features': zeros(n, max_words, text_width),
      'word_mask': np.ones((n, max_words), bool),
      'caption_mask': np.ones((n,), bool),
      'caption_video': np.arange(n, dtype=np.int32),
    }
  )


def variable_shapes(model: Model, batch: Batch) -> dict[str, Any]:
  """Returns the tree of `jax.ShapeDtypeStruct`s of a model's variables."""
  shapes = _initialize.eval_shape(model, batch)
  return {k: v for k, v in shapes.items() if k != 'intermediates'}


@functools.partial(jax.jit, static_argnums=0)
def _initialize(model: Model, batch: Batch) -> Any:
  # A function of the module: JAX keeps what it traced for equal models.
  streams = ('params', 'dropout', 'perturbation', 'registers', 'proxies')
  return model.init(dict.fromkeys(streams, jax.random.key(0)), batch)
