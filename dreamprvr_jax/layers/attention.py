"""Multi-head attention with multiplicative tables and additive masks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.dropout import Dropout
from dreamprvr_jax.layers.linear import Linear
from dreamprvr_jax.numerics import ATTENTION_PENALTY
from dreamprvr_jax.types import DType


def head_width(width: int, num_heads: int) -> int:
  """Returns the width of one head.

  Raises:
    UserError: If the heads do not divide the width.
  """
  if width % num_heads:
    raise UserError(
      f'{num_heads} heads do not divide the width {width}; choose a width '
      'that is a multiple of the number of heads'
    )
  return width // num_heads


class Attention(nn.Module):
  """Scaled dot-product attention without output projection.

  `table` multiplies the logits instead of shifting them: outside a narrow
  window they go to 0, so that far keys keep an average weight. `key_bias` is
  added after table and mask. Source: docs/method.md, "Attention".
  """

  num_heads: int
  dropout: float
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    queries: Float[Array, 'b q d'],
    keys: Float[Array, 'b s d'],
    *,
    mask: Bool[Array, '... s'] | None = None,
    table: Float[Array, 'q s'] | None = None,
    key_bias: Float[Array, 'b s'] | None = None,
    train: bool,
  ) -> Float[Array, 'b q d']:
    width = queries.shape[-1]
    heads = (self.num_heads, head_width(width, self.num_heads))
    project = lambda name: Linear(heads, self.dtype, name=name)
    q = project('query')(queries) * heads[1] ** -0.5
    k = project('key')(keys)
    v = project('value')(keys)
    logits = jnp.einsum(
      'bqhk,bshk->bhqs', q, k, preferred_element_type=jnp.float32
    )
    if table is not None:
      logits = logits * table
    if mask is not None:
      logits = logits + jnp.where(mask, 0.0, ATTENTION_PENALTY)[:, None]
    if key_bias is not None:
      logits = logits + key_bias[:, None, None]
    weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
    weights = Dropout(self.dropout)(weights, train=train)
    mixed = jnp.einsum('bhqs,bshk->bqhk', weights, v)
    return mixed.reshape(*mixed.shape[:-2], width)


class SingleQueryAttention(nn.Module):
  """`Attention` for one query token a video, over several stacks of keys.

  Parameters and result are those of `Attention`, but the key map is applied to
  the query and the value map to the pooled token, so that no key token is
  projected. The key bias shifts all logits of a query alike and drops out of
  the softmax; it stays a parameter because checkpoints contain it.
  """

  num_heads: int
  dropout: float
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(
    self,
    query: Float[Array, 'b d'],
    keys: Float[Array, 'a b s d'],
    *,
    mask: Bool[Array, 'b s'] | None = None,
    train: bool,
  ) -> Float[Array, 'a b d']:
    width = query.shape[-1]
    heads = self.num_heads
    depth = head_width(width, heads)
    q = Linear((heads, depth), self.dtype, name='query')(query)
    key_kernel, _ = _HeadMap(heads, depth, name='key')(width)
    value_kernel, value_bias = _HeadMap(heads, depth, name='value')(width)
    key_kernel, value_kernel, value_bias = (
      p.astype(self.dtype) for p in (key_kernel, value_kernel, value_bias)
    )
    q = jnp.einsum('bhk,dhk->bhd', q * depth**-0.5, key_kernel)
    logits = jnp.einsum(
      'bhd,absd->abhs', q, keys, preferred_element_type=jnp.float32
    )
    if mask is not None:
      logits = logits + jnp.where(mask, 0.0, ATTENTION_PENALTY)[:, None]
    weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
    weights = Dropout(self.dropout)(weights, train=train)
    pooled = jnp.einsum('abhs,absd->abhd', weights, keys)
    # With dropout the weights do not sum to 1; the bias is scaled by the sum.
    total = jnp.sum(weights, axis=-1)[..., None]
    mixed = jnp.einsum('abhd,dhk->abhk', pooled, value_kernel)
    mixed = mixed + total * value_bias
    return mixed.reshape(*mixed.shape[:-2], width)


class _HeadMap(nn.Module):
  """The parameters of a `Linear` to (heads, depth), not applied."""

  heads: int
  depth: int

  @nn.compact
  def __call__(
    self, width: int
  ) -> tuple[Float[Array, 'd h k'], Float[Array, 'h k']]:
    shape = (self.heads, self.depth)
    kernel = initializers.parameter(
      self, 'kernel', initializers.WEIGHT, (width, *shape)
    )
    bias = initializers.parameter(self, 'bias', nn.initializers.zeros, shape)
    return kernel, bias
