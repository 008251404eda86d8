"""Losses of the probabilistic sampler and of the diffusion estimator."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def gaussian_kl(
  mu: Float[Array, 'b d'], logvar: Float[Array, 'b d']
) -> Float[Array, ' b']:
  """Returns KL(N(mu, exp(logvar)) || N(0, 1)) per video, in nats."""
  return -0.5 * jnp.sum(1 + logvar - jnp.square(mu) - jnp.exp(logvar), axis=-1)


def noise_error(
  predicted: Float[Array, 't b r d'], noise: Float[Array, 'b r d']
) -> Float[Array, ' b']:
  """Returns the squared error per video, averaged over t, r and d.

  Gradient flows into the noise as well (L_dre;
  docs/method.md, "Variational and diffusion terms").
  """
  return jnp.mean(jnp.square(predicted - noise), axis=(0, 2, 3))
