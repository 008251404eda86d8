"""The layers that the towers of CLIP and SigLIP share.

Modules and parameters have the names of the hub's files, and weights their
shapes, (out, in): loading needs no table. The layers of a tower are stacked
along a first axis and scanned, so that many compile as quickly as one.

Parameters may be bfloat16. Then products are of bfloat16 numbers, and sums,
norms and what is passed from layer to layer are float32. See
docs/extraction.md.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.archive.encoders.architecture import Layers

_zeros = nn.initializers.zeros_init()
_small = nn.initializers.normal(0.02)
_ACTIVATIONS = {
  'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
  'gelu_pytorch_tanh': functools.partial(jax.nn.gelu, approximate=True),
}


class Linear(nn.Module):
  """A linear map; its weight is (out, in).

  Attributes:
    output: Numbers of the result.
    use_bias: Whether a bias is added.
    narrow: Whether the result has the parameters' type, for another product;
      otherwise it is float32.
  """

  output: int
  use_bias: bool = True
  narrow: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, '*b i']) -> Float[Array, '*b o']:
    weight = self.param('weight', _small, (self.output, x.shape[-1]))
    y = product('...i,oi->...o', x, weight)
    if self.use_bias:
      y += self.param('bias', _zeros, (self.output,))
    return y.astype(weight.dtype) if self.narrow else y


def product(
  form: str, x: Float[Array, '...'], weight: Float[Array, '...']
) -> Float[Array, '...']:
  """Returns the float32 product of two arrays in the type of the second.

  Args:
    form: See `jax.numpy.einsum`.
    x: Rounded to the type of the weight.
    weight: A parameter.
  """
  narrow = x.astype(weight.dtype)
  return jnp.einsum(form, narrow, weight, preferred_element_type=jnp.float32)


class LayerNorm(nn.Module):
  """A layer norm in float32."""

  epsilon: float

  @nn.compact
  def __call__(self, x: Float[Array, '*b d']) -> Float[Array, '*b d']:
    weight = self.param('weight', nn.initializers.ones_init(), x.shape[-1:])
    bias = self.param('bias', _zeros, x.shape[-1:])
    x -= x.mean(axis=-1, keepdims=True)
    variance = jnp.square(x).mean(axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(variance + self.epsilon) * weight + bias


class Table(nn.Module):
  """Vectors by number."""

  count: int
  width: int

  @nn.compact
  def __call__(self, ids: Int[Array, '*b']) -> Float[Array, '*b d']:
    weight = self.param('weight', _small, (self.count, self.width))
    return jnp.take(weight, ids, axis=0).astype(jnp.float32)


class Mlp(nn.Module):
  """Two linear maps with an activation between them."""

  layers: Layers

  @nn.compact
  def __call__(self, x: Float[Array, '*b d']) -> Float[Array, '*b d']:
    hidden = Linear(self.layers.hidden, name='fc1')(x)
    hidden = _ACTIVATIONS[self.layers.activation](hidden)
    return Linear(self.layers.width, name='fc2')(hidden)


class Attention(nn.Module):
  """Attention of tokens to each other."""

  layers: Layers

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b l d'], mask: Bool[Array, 'b _ l'] | None
  ) -> Float[Array, 'b l d']:
    width = self.layers.width
    query, key, value = (
      Linear(width, narrow=True, name=name)(x)
      for name in ('q_proj', 'k_proj', 'v_proj')
    )
    y = attend(query, key, value, self.layers.heads, mask)
    return Linear(width, name='out_proj')(y)


def attend(
  query: Float[Array, 'b q d'],
  key: Float[Array, 'b k d'],
  value: Float[Array, 'b k d'],
  heads: int,
  mask: Bool[Array, 'b _ k'] | None = None,
) -> Float[Array, 'b q d']:
  """Returns the mean of the values that each query attends to.

  Args:
    query: Queries of all heads, side by side.
    key: Keys.
    value: Values.
    heads: Number of heads.
    mask: True where a query may attend to a key; None for everywhere.
  """
  split = lambda x: x.reshape(*x.shape[:2], heads, -1)
  logits = product('bqhe,bkhe->bhqk', split(query), split(key))
  logits *= (query.shape[-1] // heads) ** -0.5
  if mask is not None:
    logits = jnp.where(mask[:, None], logits, jnp.finfo(logits.dtype).min)
  y = product('bhqk,bkhe->bqhe', jax.nn.softmax(logits), split(value))
  return y.reshape(query.shape)


class Layer(nn.Module):
  """A layer with norms in front of attention and MLP."""

  layers: Layers

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b l d'], mask: Bool[Array, 'b _ l'] | None
  ) -> tuple[Float[Array, 'b l d'], None]:
    norm = functools.partial(LayerNorm, self.layers.epsilon)
    attention = Attention(self.layers, name='self_attn')
    x += attention(norm(name='layer_norm1')(x), mask)
    x += Mlp(self.layers, name='mlp')(norm(name='layer_norm2')(x))
    return x, None


class Stack(nn.Module):
  """The layers of a tower."""

  layers: Layers

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b l d'],
    mask: Bool[Array, 'b _ l'] | None = None,
  ) -> Float[Array, 'b l d']:
    # Its annotation leaves out `nn.broadcast`.
    scan: Any = nn.scan
    scanned = scan(
      Layer,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      in_axes=nn.broadcast,
      length=self.layers.count,
    )
    return scanned(self.layers, name='layers')(x, mask)[0]


class Patches(nn.Module):
  """A vector for each square of a picture, row by row: a convolution whose
  stride is its width."""

  patch: int
  width: int
  use_bias: bool

  @nn.compact
  def __call__(self, pixels: Float[Array, 'b s s 3']) -> Float[Array, 'b l d']:
    size = self.patch
    weight = self.param('weight', _small, (self.width, 3, size, size))
    # What does not fill a square is left out.
    side = pixels.shape[1] // size
    cut = pixels[:, : side * size, : side * size]
    parts = cut.reshape(-1, side, size, side, size, 3)
    y = product('brpcqk,dkpq->brcd', parts, weight)
    if self.use_bias:
      y += self.param('bias', _zeros, (self.width,))
    return y.reshape(-1, side * side, self.width)
