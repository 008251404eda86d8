"""The towers of CLIP (Radford et al., 2021, https://arxiv.org/abs/2103.00020),
as transformers computes them; see docs/extraction.md."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.archive.encoders.architecture import Text, Vision
from dreamprvr_jax.archive.encoders.transformer import (
  LayerNorm,
  Linear,
  Patches,
  Stack,
  Table,
)

# The `eos_token_id` of old files, in which the end of a text is the token with
# the highest id.
_OLD_END = 2


class PictureEmbeddings(nn.Module):
  """A token for the whole picture and one for each patch."""

  shape: Vision

  @nn.compact
  def __call__(self, pixels: Float[Array, 'b s s 3']) -> Float[Array, 'b l d']:
    width, patch = self.shape.layers.width, self.shape.patch
    patches = Patches(patch, width, False, name='patch_embedding')(pixels)
    first = self.param(
      'class_embedding', nn.initializers.normal(0.02), (width,)
    )
    first = jnp.broadcast_to(first, (len(pixels), 1, width))
    x = jnp.concatenate([first.astype(jnp.float32), patches], axis=1)
    places = Table(x.shape[1], width, name='position_embedding')
    return x + places(jnp.arange(x.shape[1]))


class VisionModel(nn.Module):
  """Returns the tokens before the last norm, and the picture's token."""

  shape: Vision

  @nn.compact
  def __call__(
    self, pixels: Float[Array, 'b s s 3']
  ) -> tuple[Float[Array, 'b l d'], Float[Array, 'b d']]:
    layers = self.shape.layers
    x = PictureEmbeddings(self.shape, name='embeddings')(pixels)
    # The name in the files.
    x = LayerNorm(layers.epsilon, name='pre_layrnorm')(x)
    x = Stack(layers, name='encoder')(x)
    return x, LayerNorm(layers.epsilon, name='post_layernorm')(x[:, 0])


class ClipVision(nn.Module):
  """The picture tower: returns all tokens and the (b, d) vectors, which do not
  have unit length."""

  shape: Vision

  @nn.compact
  def __call__(
    self, pixels: Float[Array, 'b s s 3']
  ) -> tuple[Float[Array, 'b l e'], Float[Array, 'b d']]:
    hidden, pooled = VisionModel(self.shape, name='vision_model')(pixels)
    project = Linear(self.shape.output, False, name='visual_projection')
    return hidden, project(pooled)


class TextEmbeddings(nn.Module):
  """Tokens with their positions."""

  shape: Text

  @nn.compact
  def __call__(self, ids: Int[Array, 'b l']) -> Float[Array, 'b l d']:
    width = self.shape.layers.width
    words = Table(self.shape.vocabulary, width, name='token_embedding')(ids)
    places = Table(self.shape.positions, width, name='position_embedding')
    return words + places(jnp.arange(ids.shape[1]))


class TextModel(nn.Module):
  """Returns the tokens after the last norm, and the one at the end."""

  shape: Text

  @nn.compact
  def __call__(
    self, ids: Int[Array, 'b l'], real: Bool[Array, 'b l']
  ) -> tuple[Float[Array, 'b l d'], Float[Array, 'b d']]:
    layers = self.shape.layers
    x = TextEmbeddings(self.shape, name='embeddings')(ids)
    length = ids.shape[1]
    # A token attends to those before it and itself, never to padding.
    past = jnp.tril(jnp.ones((length, length), bool))
    x = Stack(layers, name='encoder')(x, past & real[:, None])
    x = LayerNorm(layers.epsilon, name='final_layer_norm')(x)
    old = self.shape.end == _OLD_END
    end = jnp.argmax(ids if old else ids == self.shape.end, axis=1)
    return x, jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]


class ClipText(nn.Module):
  """The text tower: returns all tokens and the (b, d) vectors, which do not
  have unit length."""

  shape: Text

  @nn.compact
  def __call__(
    self, ids: Int[Array, 'b l'], real: Bool[Array, 'b l']
  ) -> tuple[Float[Array, 'b l e'], Float[Array, 'b d']]:
    hidden, pooled = TextModel(self.shape, name='text_model')(ids, real)
    project = Linear(self.shape.output, False, name='text_projection')
    return hidden, project(pooled)
