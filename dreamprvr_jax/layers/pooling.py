"""Pooling of tokens to one vector."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.layers.sinusoids import sinusoid_table
from dreamprvr_jax.numerics import MASKED
from dreamprvr_jax.types import DType

# Softmax temperature of `GeneralizedPooling`, as released.
_TEMPERATURE = 0.1


class ScoredPooling(nn.Module):
  """Sum of tokens weighted by a softmax of one linear score per token."""

  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'n l d'], *, mask: Bool[Array, 'n l']
  ) -> Float[Array, 'n d']:
    scores = linear(1, self.dtype, 'score', use_bias=False)(x)[..., 0].astype(
      jnp.float32
    )
    weights = jax.nn.softmax(jnp.where(mask, scores, MASKED), axis=-1)
    return jnp.einsum('nl,nld->nd', weights.astype(self.dtype), x)


class TokenAttention(nn.Module):
  """Mean of tokens weighted by softmax(w2 tanh(W1 x)) over the tokens."""

  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b s d']) -> Float[Array, 'b d']:
    hidden = jnp.tanh(
      linear(x.shape[-1] // 2, self.dtype, 'hidden', use_bias=False)(x)
    )
    scores = linear(1, self.dtype, 'score', use_bias=False)(hidden)[..., 0]
    weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1)
    return jnp.einsum('bs,bsd->bd', weights.astype(self.dtype), x)


class SupportAttention(nn.Module):
  """`TokenAttention` over the tokens of a video, which may be spread over
  several rows, and over a number of zero vectors.

  A zero vector has score 0: it takes weight and adds nothing to the sum.
  """

  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'n s d'],
    *,
    mask: Bool[Array, 'n s'],
    video: Int[Array, ' n'],
    zeros: Float[Array, ' b'],
  ) -> Float[Array, 'b d']:
    """Returns one vector per video, float32; zero without any token.

    Args:
      x: Tokens.
      mask: Which of them take part.
      video: The video of each row.
      zeros: Number of zero vectors that take part, for each video.
    """
    hidden = jnp.tanh(
      linear(x.shape[-1] // 2, self.dtype, 'hidden', use_bias=False)(x)
    )
    scores = linear(1, self.dtype, 'score', use_bias=False)(hidden)[..., 0]
    scores = jnp.where(mask, scores.astype(jnp.float32), MASKED)
    by_video = lambda reduce, rows: reduce(rows, video, len(zeros))
    # Any number per video gives the same weights; the greatest score keeps
    # the exponentials within range.
    some = zeros > 0
    greatest = by_video(jax.ops.segment_max, jnp.max(scores, axis=1))
    greatest = jnp.maximum(greatest, jnp.where(some, 0.0, MASKED))
    greatest = jax.lax.stop_gradient(greatest)
    shares = jnp.exp(scores - greatest[video][:, None])
    shares = jnp.where(mask, shares, 0.0)
    rows = jnp.einsum(
      'ns,nsd->nd', shares, x, preferred_element_type=jnp.float32
    )
    total = by_video(jax.ops.segment_sum, jnp.sum(shares, axis=1))
    total += zeros * jnp.exp(jnp.where(some, -greatest, 0.0))
    found = by_video(jax.ops.segment_sum, rows)
    return found / jnp.where(total > 0, total, 1.0)[:, None]


class RecurrentPass(nn.Module):
  """One direction of a gated recurrent unit, gates in the order r, z, n."""

  width: int
  reverse: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, 'l w']) -> Float[Array, 'l w']:
    xavier = nn.initializers.xavier_uniform()
    orthogonal = nn.initializers.orthogonal()
    gates = 3 * self.width
    w_input = initializers.parameter(
      self, 'kernel_input', xavier, (x.shape[-1], gates)
    )
    w_hidden = initializers.parameter(
      self, 'kernel_hidden', orthogonal, (self.width, gates)
    )
    b_input = initializers.parameter(
      self, 'bias_input', nn.initializers.zeros, (gates,)
    )
    b_hidden = initializers.parameter(
      self, 'bias_hidden', nn.initializers.zeros, (gates,)
    )

    def step(h, projected):
      recurrent = h @ w_hidden + b_hidden
      r_in, z_in, n_in = jnp.split(projected, 3)
      r_h, z_h, n_h = jnp.split(recurrent, 3)
      r = jax.nn.sigmoid(r_in + r_h)
      z = jax.nn.sigmoid(z_in + z_h)
      n = jnp.tanh(n_in + r * n_h)
      h = (1 - z) * n + z * h
      return h, h

    start = jnp.zeros((self.width,), x.dtype)
    _, states = jax.lax.scan(
      step, start, x @ w_input + b_input, reverse=self.reverse
    )
    return states


class GeneralizedPooling(nn.Module):
  """Generalised pooling operator: learned weights over sorted values.

  The weights come from a bidirectional GRU over position codes. They depend
  on parameters only, so they are computed once per step, not once per video;
  in float32. Source: docs/method.md, "Variational sampler".
  """

  width: int = 32

  @nn.compact
  def __call__(self, x: Float[Array, 'b s d']) -> Float[Array, 'b d']:
    code = jnp.asarray(sinusoid_table(x.shape[-2], self.width))
    forward = RecurrentPass(self.width, name='forward')(code)
    backward = RecurrentPass(self.width, reverse=True, name='backward')(code)
    scores = linear(1, jnp.float32, 'score', use_bias=False)(
      (forward + backward) / 2
    )[:, 0]
    weights = jax.nn.softmax(scores / _TEMPERATURE)
    ordered = jnp.flip(jnp.sort(x.astype(jnp.float32), axis=-2), axis=-2)
    return jnp.einsum('s,bsd->bd', weights, ordered)
