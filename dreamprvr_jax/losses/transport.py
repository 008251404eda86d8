"""Soft labels between a video's captions and clips by transport (Holmes).

Source: docs/method.md, "Evidence inside a video".
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamprvr_jax.numerics import MASKED, largest


def stretched(
  cosine: Float[Array, 'b q c'], real: Bool[Array, 'b q']
) -> Float[Array, 'b q c']:
  """Returns a video's cosines stretched to [0, 1].

  If a video has fewer captions than another one of the batch, the missing
  captions count as cosines of 0, as released. Gradients also flow through the
  limits.
  """
  count = jnp.sum(real, axis=1)
  short = (count < jnp.max(count))[:, None, None]
  cells = real[..., None]
  limit = lambda x: largest(jnp.where(cells, x, -jnp.inf).reshape(len(x), -1))[
    :, None, None
  ]
  low, high = -limit(-cosine), limit(cosine)
  low = jnp.where(short & (low > 0), 0.0, low)
  high = jnp.where(short & (high < 0), 0.0, high)
  # A video without captions gets the limits 0 and 1.
  some = (count > 0)[:, None, None]
  low, high = jnp.where(some, low, 0.0), jnp.where(some, high, 1.0)
  return jnp.where(cells, (cosine - low) / (high - low + 1e-8), 0.0)


def transport_labels(
  x: Float[Array, 'b q c'],
  real: Bool[Array, 'b q'],
  *,
  quantile: float,
  scale: float,
  iterations: int,
) -> Float[Array, 'b q c']:
  """Returns each caption's distribution over the clips; no gradient.

  Entropic transport between the captions and a dustbin (rows) and the clips.

  Args:
    x: From `stretched`.
    real: Real captions.
    quantile: The dustbin's value is this quantile of the video's x.
    scale: Divides the values (released option `pot_scale`).
    iterations: Rounds of scaling rows and columns.
  """
  x = jax.lax.stop_gradient(x)
  videos, captions, clips = x.shape
  count = jnp.sum(real, axis=1)
  cells = jnp.where(real[..., None], x, jnp.inf).reshape(videos, -1)
  # In integers: 0.3 * 32 * n is not exact.
  tenths = round(quantile * 1000)
  k = jnp.maximum(1, tenths * clips * count // 1000)
  dustbin = jnp.take_along_axis(jnp.sort(cells, axis=1), k[:, None] - 1, axis=1)
  dustbin = jnp.where((count > 0)[:, None], dustbin, 0.0)

  rows = jnp.concatenate([real, jnp.ones((videos, 1), bool)], axis=1)
  logits = jnp.concatenate(
    [x, jnp.broadcast_to(dustbin[..., None], (videos, 1, clips))], axis=1
  )
  logits = jnp.where(rows[..., None], logits / scale, MASKED)
  mass = jnp.log((clips + count).astype(jnp.float32))[:, None]
  dust = (jnp.arange(captions + 1) == captions)[None]
  log_mu = jnp.where(dust, jnp.log(float(clips)), 0.0) - mass
  log_nu = -jnp.log(float(clips))
  lse = jax.nn.logsumexp

  def body(_, duals):
    f, g = duals
    f = log_mu - lse(logits + g[:, None], axis=2)
    # Rows of missing captions keep out of the columns' sums.
    f = jnp.where(rows, f, 0.0)
    g = log_nu - lse(logits + f[..., None], axis=1)
    return f, g

  duals = jnp.zeros((videos, captions + 1)), jnp.zeros((videos, clips))
  f, g = jax.lax.fori_loop(0, iterations, body, duals)
  plan = clips * jnp.exp(logits + f[..., None] + g[:, None])
  plan = jnp.where(rows[..., None], plan, 0.0)[:, :-1]
  return plan / (jnp.sum(plan, axis=2, keepdims=True) + 1e-8)
