"""Text perturbation sampler: the diffusion target from a video's captions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def perturb_queries(
  mean_queries: Float[Array, 'b d'],
  alpha_draw: Float[Array, 'b r d'],
  beta_draw: Float[Array, 'b r d'],
  scale: float,
) -> Float[Array, 'b r d']:
  """Returns q^ = alpha * n + beta, one perturbed query per register.

  n is the query whitened over its channels (biased variance, + 1e-5);
  alpha = 1 + scale sd draw and beta = mean + scale sd draw with the unbiased
  standard deviation. alpha and beta are constants to the gradient: it flows
  through n alone.

  Source: docs/method.md, "Text perturbation" (L_dre).

  Args:
    mean_queries: The mean query of each video.
    alpha_draw: Standard normal draws.
    beta_draw: Standard normal draws.
    scale: gamma.
  """
  width = mean_queries.shape[-1]
  mean = jnp.mean(mean_queries, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(mean_queries - mean), axis=-1, keepdims=True)
  whitened = (mean_queries - mean) / jnp.sqrt(variance + 1e-5)
  # The gradient is stopped before the root, whose gradient at variance 0 (a
  # padding row) is infinite.
  fixed_mean = jax.lax.stop_gradient(mean)[:, None]
  spread = jnp.sqrt(
    jax.lax.stop_gradient(variance) * width / max(width - 1, 1)
  )[:, None]
  alpha = 1.0 + scale * spread * alpha_draw
  beta = fixed_mean + scale * spread * beta_draw
  return alpha * whitened[:, None] + beta
