"""Tokens as product codes: a byte per stretch of numbers, and a codebook.

A token, scaled to unit length, is cut into stretches (sub-vectors) of equal
length; each becomes the number of the nearest of the 256 centres of its
stretch. H. Jegou, M. Douze, C. Schmid, Product Quantization for Nearest
Neighbor Search, IEEE TPAMI 33(1), 2011.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.numerics import l2_normalize

CENTRES = 256
# Numbers of a sub-vector, if nobody says how many sub-vectors there are.
_LENGTH = 8
_ITERATIONS = 15
# Tokens compared with the centres at a time: what a CPU's caches hold.
_CHUNK = 2048


def sub_vectors(width: int, wanted: int = 0) -> int:
  """Returns the sub-vectors of a token: those that are wanted, or (0) one per
  eight numbers.

  Raises:
    UserError: If they do not divide the width.
  """
  if wanted < 0 or (wanted and width % wanted):
    raise UserError(
      f'--sub_vectors={wanted} does not divide the width {width} of a token; '
      f'choose among {", ".join(map(str, divisors(width)))}'
    )
  fitting = [count for count in divisors(width) if count * _LENGTH >= width]
  return wanted or fitting[0]


def divisors(number: int) -> list[int]:
  """Returns what divides a number, rising."""
  return [i for i in range(1, number + 1) if number % i == 0]


@functools.partial(jax.jit, static_argnames='count')
def train(
  tokens: Float[Array, 'n d'], count: int, seed: int = 0
) -> Float[Array, 'm k w']:
  """Returns the codebook of a sample of tokens: `count` times the centres
  that k-means finds among its stretches, from centres drawn with the seed."""
  parts = _stretches(l2_normalize(tokens.astype(jnp.float32)), count)
  few = len(tokens) < CENTRES
  chosen = jax.random.choice(
    jax.random.key(seed), len(tokens), (CENTRES,), replace=few
  )
  # What does not fill a chunk of many is left out.
  chunk = min(len(tokens), _CHUNK)
  whole = len(tokens) // chunk * chunk

  def centres_of(x: Float[Array, 'n w']) -> Float[Array, 'k w']:
    chunks = x[:whole].reshape(-1, chunk, x.shape[-1])

    def improved(_: Any, centres: Float[Array, 'k w']) -> Float[Array, 'k w']:
      def add(total, x):
        sums, sizes = total
        distances = _distances(x, centres)
        member = (distances == distances.min(axis=0)).astype(x.dtype)
        return (sums + member @ x, sizes + member.sum(axis=1)), None

      empty = jnp.zeros_like(centres), jnp.zeros(CENTRES)
      (sums, sizes), _ = jax.lax.scan(add, empty, chunks)
      # A centre that has nothing stays where it is.
      means = sums / jnp.maximum(sizes, 1)[:, None]
      return jnp.where(sizes[:, None] > 0, means, centres)

    return jax.lax.fori_loop(0, _ITERATIONS, improved, x[chosen])

  return jax.lax.map(centres_of, parts)


@jax.jit
def encode(
  tokens: Float[Array, 'b s d'], codebook: Float[Array, 'm k w']
) -> UInt8[Array, 'b m s']:
  """Returns the codes of tokens; those of one stretch lie side by side, as
  `product_scores` reads them."""
  unit = l2_normalize(tokens.astype(jnp.float32))
  of_video = lambda x: jax.lax.map(
    lambda one: _nearest(*one), (_stretches(x, len(codebook)), codebook)
  )
  return jax.lax.map(of_video, unit).astype(jnp.uint8)


def decode(
  codes: UInt8[np.ndarray, '... m s'], codebook: Float[np.ndarray, 'm k w']
) -> Float[np.ndarray, '... s d']:
  """Returns what codes stand for, in numpy: tokens of about unit length."""
  stretch = np.arange(len(codebook))[:, None]
  found = np.moveaxis(codebook[stretch, codes], -3, -2)
  return found.reshape(*found.shape[:-2], -1)


def tables(
  queries: Float[Array, 'n d'], codebook: Float[Array, 'm k w']
) -> Float[Array, 'm n k']:
  """Returns the products of each query's stretches with the centres."""
  parts = _stretches(queries, len(codebook))
  return jnp.einsum('mnw,mkw->mnk', parts, codebook)


def product_scores(
  found: Float[Array, 'm n k'], codes: UInt8[Array, 'b m s']
) -> Float[Array, 'n b s']:
  """Returns the products of queries with what codes stand for.

  Looked up and added up, not decoded: per query a token costs as many
  additions as it has sub-vectors.
  """

  def add(total, one):
    table, places = one
    return total + jnp.take(table, places, axis=1, mode='clip'), None

  queries = found.shape[1]
  empty = jnp.zeros((queries, len(codes), codes.shape[2]), jnp.float32)
  places = codes.swapaxes(0, 1).astype(jnp.int32)
  return jax.lax.scan(add, empty, (found, places))[0]


def _stretches(x: Float[Array, 'n d'], count: int) -> Float[Array, 'm n w']:
  return x.reshape(len(x), count, -1).swapaxes(0, 1)


def _nearest(
  x: Float[Array, 'n w'], centres: Float[Array, 'k w']
) -> Int[Array, ' n']:
  """Returns the number of the nearest centre, the first of equals."""
  distances = _distances(x, centres)
  # Two minima: on a CPU faster than one argmin.
  places = jnp.arange(CENTRES)[:, None]
  return jnp.where(distances == distances.min(axis=0), places, CENTRES).min(0)


def _distances(
  x: Float[Array, 'n w'], centres: Float[Array, 'k w']
) -> Float[Array, 'k n']:
  """Returns squared distances, less what all centres have in common."""
  return jnp.square(centres).sum(axis=-1)[:, None] - 2 * centres @ x.T
