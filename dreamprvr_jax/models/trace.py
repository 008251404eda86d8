"""TRACE (arXiv 2609.08999): evidence in frames, found by way of registers.

Source: docs/method.md, "TRACE".
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.layers.initializers import WEIGHT, identity
from dreamprvr_jax.layers.linear import Linear
from dreamprvr_jax.numerics import MASKED, NORM_FLOOR, l2_normalize, largest
from dreamprvr_jax.types import DType

# How a query reaches frames: the method, and its controls.
ROUTINGS = ('query', 'uniform', 'shuffled', 'shuffled_frames', 'best_frame')
# Initial values of the maps.
STARTS = {'identity': identity, 'normal': WEIGHT}
# Below, a product of two softmax terms can be too small for float32.
_LEAST_TEMPERATURE = 0.05


@dataclasses.dataclass(frozen=True)
class TraceSettings:
  """Numbers of the score.

  Attributes:
    routing: One of `ROUTINGS`. 'query' is the method. 'uniform' gives all
      registers the same weight. 'shuffled' moves the weights on by half of the
      registers, 'shuffled_frames' the registers' cosines by half of the frames.
      'best_frame' is the best cosine alone.
    temperature: tau.
    route: gamma, weight of the route in the score of a frame.
    soft: eta, weight of the pooled evidence.
  """

  routing: str
  temperature: float
  route: float
  soft: float

  def __post_init__(self):
    if self.routing not in ROUTINGS:
      raise UserError(
        f"TRACE's routing {self.routing!r} is unknown; choose from "
        f'{", ".join(ROUTINGS)}'
      )
    if not self.temperature >= _LEAST_TEMPERATURE:
      raise UserError(
        f"TRACE's temperature is {self.temperature}; give at least "
        f'{_LEAST_TEMPERATURE}, below which float32 is too coarse'
      )


@struct.dataclass
class Evidence:
  """What TRACE reads of videos; vectors of any length."""

  registers: Float[Array, 'b r d']
  register_mask: Bool[Array, 'b r']
  keys: Float[Array, 'b f d']
  values: Float[Array, 'b f d']
  frame_mask: Bool[Array, 'b f']


def trace_scores(
  queries: Float[Array, 'n d'], videos: Evidence, settings: TraceSettings
) -> Float[Array, 'n b']:
  """Returns S_trace of queries and videos, float32; very low without frames.

  The largest arrays are (n, b, f): registers are summed over in products, so
  (n, b, f, r) is never built, and a block that fits with its frames fits here.

  Args:
    queries: Mapped queries.
    videos: Mapped registers and frames.
    settings: Numbers of the score.
  """
  queries = l2_normalize(queries)
  keys, values = l2_normalize(videos.keys), l2_normalize(videos.values)
  real = videos.frame_mask[None]
  direct = _products('nd,bfd->nbf', queries, keys)
  if settings.routing == 'best_frame':
    return jnp.max(jnp.where(real, direct, MASKED), axis=-1)
  registers = l2_normalize(videos.registers)
  near = _products('nd,brd->nbr', queries, registers)
  near = jnp.where(videos.register_mask[None], near, MASKED)
  links = _products('brd,bfd->brf', registers, keys)
  if settings.routing == 'shuffled_frames':
    links = _moved_on(links, videos.frame_mask)
  tau = settings.temperature
  weights = _weights(near, videos.register_mask, settings)

  # rho = tau lse_k((a_k + b_ki) / tau)
  #     = tau lse_k(a_k / tau) + tau log sum_k pi_k exp(b_ki / tau)
  level = tau * jax.nn.logsumexp(near / tau, axis=-1, keepdims=True)
  linked = jnp.where(videos.register_mask[..., None], links, MASKED)
  most = jax.lax.stop_gradient(jnp.max(linked, axis=1))
  shares = jnp.exp((linked - most[:, None]) / tau)
  routed = tau * jnp.log(_products('nbr,brf->nbf', weights, shares))
  frames = direct + settings.route * (level + routed + most[None])
  best = largest(jnp.where(real, frames, MASKED))

  # The pooled evidence is sum_k pi_k p_k, with p_k pooled by register k alone.
  pooled = _products(
    'brf,bfd->brd',
    jax.nn.softmax(
      jnp.where(videos.frame_mask[:, None], links / tau, MASKED), axis=-1
    ),
    values,
  )
  along = _products('nbr,nbr->nb', weights, _along(queries, pooled))
  gram = _products('brd,bsd->brs', pooled, pooled)
  square = _products('nbr,brs,nbs->nb', weights, gram, weights)
  norm = jnp.sqrt(jnp.maximum(square, NORM_FLOOR**2))
  return best + settings.soft * along / norm


def _products(equation: str, *arrays: Float[Array, '...']) -> Array:
  return jnp.einsum(equation, *arrays, preferred_element_type=jnp.float32)


def _along(
  queries: Float[Array, 'n d'], pooled: Float[Array, 'b r d']
) -> Float[Array, 'n b r']:
  return _products('nd,brd->nbr', queries.astype(jnp.float32), pooled)


def _weights(
  near: Float[Array, 'n b r'],
  mask: Bool[Array, 'b r'],
  settings: TraceSettings,
) -> Float[Array, 'n b r']:
  """Returns pi, or the weights of a control; padded registers have weight 0."""
  if settings.routing == 'uniform':
    near = jnp.where(mask[None], 0.0, MASKED)
    return jnp.broadcast_to(jax.nn.softmax(near, axis=-1), near.shape)
  weights = jax.nn.softmax(near / settings.temperature, axis=-1)
  if settings.routing != 'shuffled':
    return weights
  return _moved_on(weights, mask[None])


def _moved_on(
  x: Float[Array, '*rows s'], mask: Bool[Array, '*batch s']
) -> Float[Array, '*rows s']:
  """Returns x with its entries moved on by half of the real ones.

  Real entries come first, and the last ones move to the front. Padded ones stay
  where they are.

  Args:
    x: For example (b, r, f), whose frames are moved.
    mask: Real entries; (b, f) in this example, or of as many axes as x.
  """
  while mask.ndim < x.ndim:
    mask = mask[..., None, :]
  count = jnp.sum(mask, axis=-1, keepdims=True)
  place = jnp.arange(x.shape[-1])
  source = (place - count // 2) % jnp.maximum(count, 1)
  source = jnp.broadcast_to(jnp.where(mask, source, place), x.shape)
  return jnp.take_along_axis(x, source, axis=-1)


class TraceHead(nn.Module):
  """TRACE's four maps, and the score of what they map.

  `start` has their initial values: 'identity', or 'normal', N(0, 0.02).
  """

  width: int
  settings: TraceSettings
  use_bias: bool
  start: str
  dtype: DType = jnp.float32

  def setup(self):
    if self.start not in STARTS:
      raise UserError(
        f'config.model.trace_start is {self.start!r}; choose from '
        f'{", ".join(STARTS)}'
      )
    mapped = lambda: Linear(
      (self.width,), self.dtype, self.use_bias, STARTS[self.start]
    )
    self.query, self.register_key = mapped(), mapped()
    self.frame_key, self.frame_value = mapped(), mapped()

  def __call__(
    self,
    queries: Float[Array, 'n d'],
    registers: Float[Array, 'b r d'],
    frames: Float[Array, 'b f d'],
    frame_mask: Bool[Array, 'b f'],
  ) -> Float[Array, 'n b']:
    """Returns S_trace, float32."""
    evidence = Evidence(
      registers=self.register_key(registers),
      register_mask=jnp.ones(registers.shape[:2], bool),
      keys=self.frame_key(frames),
      values=self.frame_value(frames),
      frame_mask=frame_mask,
    )
    return trace_scores(self.query(queries), evidence, self.settings)
