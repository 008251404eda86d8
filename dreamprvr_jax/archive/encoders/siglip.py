"""The towers of SigLIP (Zhai et al., 2023, https://arxiv.org/abs/2303.15343)
and of SigLIP 2 at a fixed resolution (Tschannen et al., 2025,
https://arxiv.org/abs/2502.14786), as transformers computes them; see
docs/extraction.md."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.archive.encoders.architecture import Layers, Text, Vision
from dreamprvr_jax.archive.encoders.clip import TextEmbeddings
from dreamprvr_jax.archive.encoders.transformer import (
  LayerNorm,
  Linear,
  Mlp,
  Patches,
  Stack,
  Table,
  attend,
  product,
)

_small = nn.initializers.normal(0.02)


class PictureEmbeddings(nn.Module):
  """A token for each patch."""

  shape: Vision

  @nn.compact
  def __call__(self, pixels: Float[Array, 'b s s 3']) -> Float[Array, 'b l d']:
    width, patch = self.shape.layers.width, self.shape.patch
    x = Patches(patch, width, True, name='patch_embedding')(pixels)
    places = Table(x.shape[1], width, name='position_embedding')
    return x + places(jnp.arange(x.shape[1]))


class ProbeAttention(nn.Module):
  """Attention of one query to all tokens, with PyTorch's joint weights."""

  layers: Layers

  @nn.compact
  def __call__(
    self, probe: Float[Array, 'b 1 d'], x: Float[Array, 'b l d']
  ) -> Float[Array, 'b 1 d']:
    width = self.layers.width
    weight = self.param('in_proj_weight', _small, (3 * width, width))
    bias = self.param('in_proj_bias', nn.initializers.zeros, (3 * width,))
    query, key, value = (
      (product('bli,oi->blo', source, weight[part]) + bias[part]).astype(
        weight.dtype
      )
      for source, part in (
        (probe, slice(width)),
        (x, slice(width, 2 * width)),
        (x, slice(2 * width, None)),
      )
    )
    y = attend(query, key, value, self.layers.heads)
    return Linear(width, name='out_proj')(y)


class Pooling(nn.Module):
  """One vector of a picture: a learned query attends to all tokens."""

  layers: Layers

  @nn.compact
  def __call__(self, x: Float[Array, 'b l d']) -> Float[Array, 'b d']:
    layers = self.layers
    probe = self.param('probe', _small, (1, 1, layers.width))
    probe = jnp.broadcast_to(probe, (len(x), 1, layers.width))
    y = ProbeAttention(layers, name='attention')(probe, x)
    inner = LayerNorm(layers.epsilon, name='layernorm')(y)
    return (y + Mlp(layers, name='mlp')(inner))[:, 0]


class VisionModel(nn.Module):
  """Returns the tokens after the last norm, and the picture's vector."""

  shape: Vision

  @nn.compact
  def __call__(
    self, pixels: Float[Array, 'b s s 3']
  ) -> tuple[Float[Array, 'b l d'], Float[Array, 'b d']]:
    layers = self.shape.layers
    x = PictureEmbeddings(self.shape, name='embeddings')(pixels)
    x = Stack(layers, name='encoder')(x)
    x = LayerNorm(layers.epsilon, name='post_layernorm')(x)
    return x, Pooling(layers, name='head')(x)


class SiglipVision(nn.Module):
  """The picture tower: returns all tokens and the (b, d) vectors, which do not
  have unit length."""

  shape: Vision

  @nn.compact
  def __call__(
    self, pixels: Float[Array, 'b s s 3']
  ) -> tuple[Float[Array, 'b l d'], Float[Array, 'b d']]:
    return VisionModel(self.shape, name='vision_model')(pixels)


class TextModel(nn.Module):
  """Returns the tokens after the last norm, and the sentence's vector."""

  shape: Text

  @nn.compact
  def __call__(
    self, ids: Int[Array, 'b l']
  ) -> tuple[Float[Array, 'b l e'], Float[Array, 'b d']]:
    layers = self.shape.layers
    x = TextEmbeddings(self.shape, name='embeddings')(ids)
    # Without a mask: padding takes part, as in training.
    x = Stack(layers, name='encoder')(x)
    x = LayerNorm(layers.epsilon, name='final_layer_norm')(x)
    return x, Linear(self.shape.output, name='head')(x[:, -1])


class SiglipText(nn.Module):
  """The text tower: returns all tokens and the (b, d) vectors, which do not
  have unit length. Texts are padded to all positions."""

  shape: Text

  @nn.compact
  def __call__(
    self, ids: Int[Array, 'b l'], real: Bool[Array, 'b l']
  ) -> tuple[Float[Array, 'b l e'], Float[Array, 'b d']]:
    del real
    return TextModel(self.shape, name='text_model')(ids)
