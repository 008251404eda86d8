"""The diffusion register estimator: a conditional residual MLP on tokens."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers import initializers
from dreamprvr_jax.layers.linear import linear
from dreamprvr_jax.layers.normalization import layer_norm
from dreamprvr_jax.layers.sinusoids import sinusoid_table
from dreamprvr_jax.types import DType

TIME_EMBEDDINGS = ('released', 'sinusoidal')


class RegisterEstimator(nn.Module):
  """eps_phi(x, t, cond): predicted noise of registers.

  Source: docs/method.md, "Register estimator".

  `step_terms` and `condition_terms` compute the parts that depend only on the
  step or only on the condition, once; calling the module adds them up. All
  linear maps have a bias; dropout is 0, as released.
  """

  num_steps: int
  num_layers: int
  width: int
  time_embedding: str
  dtype: DType

  def setup(self):
    if self.time_embedding not in TIME_EMBEDDINGS:
      raise UserError(
        f'time embedding {self.time_embedding!r} is unknown; choose from '
        f'{TIME_EMBEDDINGS}'
      )
    new_linear = lambda: linear(self.width, self.dtype)
    norm = lambda: layer_norm(None, self.dtype)
    each = range(self.num_layers)
    self.time_hidden = new_linear()
    self.time_out = new_linear()
    self.condition_norm = norm()
    self.condition_in = new_linear()
    self.norm_in = [norm() for _ in each]
    self.linear_in = [new_linear() for _ in each]
    self.time_map = [new_linear() for _ in each]
    self.condition_map = [new_linear() for _ in each]
    self.norm_out = [norm() for _ in each]
    self.linear_out = [new_linear() for _ in each]
    self.shortcut = [new_linear() for _ in each]
    self.readout = new_linear()
    # The table is neither trained nor decayed, so it is no parameter. In the
    # released program it is random, since the initialisation overwrites the
    # sinusoids; the paper keeps them.
    if self.time_embedding == 'released':
      self.time_table = self.variable(
        'constants',
        'time_table',
        lambda: initializers.WEIGHT(
          self.make_rng('params'), (self.num_steps, self.width)
        ),
      )

  def _table(self) -> Float[Array, 't d']:
    if self.time_embedding == 'released':
      return self.time_table.value
    return jnp.asarray(sinusoid_table(self.num_steps, self.width))

  def step_terms(self) -> Float[Array, 't i d']:
    """Returns W_t swish(temb) of every step and layer i."""
    table = self._table().astype(self.dtype)
    embedding = self.time_out(jax.nn.swish(self.time_hidden(table)))
    hidden = jax.nn.swish(embedding)
    return jnp.stack([linear(hidden) for linear in self.time_map], axis=1)

  def condition_terms(
    self, condition: Float[Array, 'b r d']
  ) -> Float[Array, 'i b r d']:
    """Returns W_c swish(c') of every layer i."""
    context = self.condition_in(jax.nn.relu(self.condition_norm(condition)))
    hidden = jax.nn.swish(context)
    return jnp.stack([linear(hidden) for linear in self.condition_map])

  def __call__(
    self,
    x: Float[Array, '*t b r d'],
    step_terms: Float[Array, '*t i d'],
    condition_terms: Float[Array, 'i b r d'],
  ) -> Float[Array, '*t b r d']:
    """Returns the predicted noise of one step, or of stacked steps."""
    if x.ndim == 3:
      return self._predict(x, step_terms, condition_terms)
    # Steps become tokens of their video: products have one row axis, and each
    # device keeps its own videos.
    t, b, r, d = x.shape
    tokens = jnp.moveaxis(x, 0, 1).reshape(b, t * r, d)
    found = self._predict(
      tokens,
      jnp.repeat(step_terms, r, axis=0),
      jnp.tile(condition_terms, (1, 1, t, 1)),
    )
    return jnp.moveaxis(found.reshape(b, t, r, d), 1, 0)

  def _predict(
    self,
    x: Float[Array, 'b n d'],
    step_terms: Float[Array, '*n i d'],
    condition_terms: Float[Array, 'i b n d'],
  ) -> Float[Array, 'b n d']:
    x = x.astype(self.dtype)
    h = x
    for i in range(self.num_layers):
      u = self.linear_in[i](jax.nn.swish(self.norm_in[i](h)))
      u = u + step_terms[..., i, :] + condition_terms[i]
      u = self.linear_out[i](jax.nn.swish(self.norm_out[i](u)))
      h = u + self.shortcut[i](h)
    return self.readout(h + x)
