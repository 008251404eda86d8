"""The shapes of a model's variables, without their values."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

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
      'clip_sizes': jnp.full((b, num_clips), max_frames // num_clips),
      'clip_groups': jnp.tile(jnp.arange(num_clips), (b, 1)),
    }
  return Batch(
    **plan,
    clip_features=jnp.zeros((b, num_clips, visual_width)),
    frame_features=jnp.zeros((b, max_frames, visual_width)),
    frame_mask=jnp.ones((b, max_frames), bool),
    video_mask=jnp.ones((b,), bool),
    word_features=jnp.zeros((n, max_words, text_width)),
    word_mask=jnp.ones((n, max_words), bool),
    caption_mask=jnp.ones((n,), bool),
    caption_video=jnp.arange(n, dtype=jnp.int32),
  )


def variable_shapes(model: Model, batch: Batch) -> dict[str, Any]:
  """Returns the tree of `jax.ShapeDtypeStruct`s of a model's variables."""
  streams = ('params', 'dropout', 'perturbation', 'registers', 'proxies')
  rngs: Any = dict.fromkeys(streams, jax.random.key(0))
  shapes = _initialize.eval_shape(model, rngs, batch)
  return {k: v for k, v in shapes.items() if k != 'intermediates'}


@functools.partial(jax.jit, static_argnums=0)
def _initialize(model: Model, rngs: Any, batch: Batch) -> Any:
  # A function of the module: JAX keeps what it traced for equal models.
  return model.init(rngs, batch)
