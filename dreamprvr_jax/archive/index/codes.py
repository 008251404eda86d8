"""Tokens in fewer bytes: int8 codes with scales, and product codes.

Int8: a byte per number and a scale per token.

Product codes: a token, scaled to unit length where scores are cosines, is cut
into stretches (sub-vectors) of equal length. Each stretch becomes the number of
the nearest of the 256 centres of its stretch. H. Jegou, M. Douze, C. Schmid,
Product Quantization for Nearest Neighbor Search, IEEE TPAMI 33(1), 2011.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int8, UInt8

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.numerics import l2_normalize

# Codes of int8 are from -127 to 127.
_GREATEST = 127
# Centres of a stretch: as many as a byte can number.
CENTRES = 256
# Numbers of a sub-vector by default.
_LENGTH = 8
_ITERATIONS = 15
# Tokens compared with the centres at a time: they fit in a CPU's caches.
_CHUNK = 2048


def quantize(
  tokens: Float[np.ndarray, '... d'],
) -> tuple[Int8[np.ndarray, '... d'], Float[np.ndarray, '...']]:
  """Returns (codes, scales) such that codes * scales are about the tokens.

  The entry of greatest size of a token becomes 127 or -127, others are
  rounded to the nearest step: no entry is off by more than half a scale. A
  zero token has the scale 0.
  """
  scales = np.max(np.abs(tokens), axis=-1).astype(np.float32) / _GREATEST
  steps = np.where(scales > 0, scales, 1)[..., None]
  return np.rint(tokens / steps).astype(np.int8), scales


def dequantize(
  codes: Int8[np.ndarray, '... d'], scales: Float[np.ndarray, '...']
) -> Float[np.ndarray, '... d']:
  """Returns the tokens that codes stand for, float32; numpy or JAX."""
  return codes.astype(np.float32) * scales[..., None]


def sub_vectors(width: int, wanted: int = 0) -> int:
  """Returns how many sub-vectors a token has.

  Args:
    width: Numbers of a token.
    wanted: The number of sub-vectors; 0 for one per eight numbers.

  Raises:
    UserError: If the number does not divide the width.
  """
  if wanted < 0 or (wanted and width % wanted):
    raise UserError(
      f'--sub_vectors={wanted} does not divide the width {width} of a token; '
      f'choose among {", ".join(map(str, _divisors(width)))}'
    )
  fitting = [count for count in _divisors(width) if count * _LENGTH >= width]
  return wanted or fitting[0]


def _divisors(number: int) -> list[int]:
  """Returns the divisors of a number, in rising order."""
  return [i for i in range(1, number + 1) if number % i == 0]


@functools.partial(jax.jit, static_argnames=('count', 'scaled'))
def train_codebook(
  tokens: Float[Array, 'n d'], count: int, *, scaled: bool = True
) -> Float[Array, 'm k w']:
  """Returns a codebook: the centres that k-means finds for each stretch.

  Args:
    tokens: The sample.
    count: Stretches of a token.
    scaled: Whether tokens are scaled to unit length first.
  """
  parts = _stretches(_float32(tokens, scaled), count)
  few = len(tokens) < CENTRES
  chosen = jax.random.choice(
    jax.random.key(0), len(tokens), (CENTRES,), replace=few
  )
  # The last chunk is left out unless it is full or the only one.
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
      # A centre without tokens stays where it is.
      means = sums / jnp.maximum(sizes, 1)[:, None]
      return jnp.where(sizes[:, None] > 0, means, centres)

    return jax.lax.fori_loop(0, _ITERATIONS, improved, x[chosen])

  return jax.lax.map(centres_of, parts)


@functools.partial(jax.jit, static_argnames='scaled')
def encode_products(
  tokens: Float[Array, 'b s d'],
  codebook: Float[Array, 'm k w'],
  *,
  scaled: bool = True,
) -> UInt8[Array, 'b m s']:
  """Returns the codes of tokens, stretch by stretch as `product_scores` reads
  them; `scaled` as in `train_codebook`."""
  found = _float32(tokens, scaled)
  of_video = lambda x: jax.lax.map(
    lambda one: _nearest(*one), (_stretches(x, len(codebook)), codebook)
  )
  return jax.lax.map(of_video, found).astype(jnp.uint8)


def decode_products(
  codes: UInt8[np.ndarray, '... m s'], codebook: Float[np.ndarray, 'm k w']
) -> Float[np.ndarray, '... s d']:
  """Returns the tokens that codes stand for, about as long as those that were
  coded, in numpy."""
  stretch = np.arange(len(codebook))[:, None]
  found = np.moveaxis(codebook[stretch, codes], -3, -2)
  return found.reshape(*found.shape[:-2], -1)


def product_tables(
  queries: Float[Array, 'n d'], codebook: Float[Array, 'm k w']
) -> Float[Array, 'm n k']:
  """Returns the products of each query's stretches with the centres."""
  parts = _stretches(queries, len(codebook))
  return jnp.einsum('mnw,mkw->mnk', parts, codebook)


def product_scores(
  found: Float[Array, 'm n k'], codes: UInt8[Array, 'b m s']
) -> Float[Array, 'n b s']:
  """Returns the products of queries with the tokens that codes stand for.

  Nothing is decoded: the product with a token is the sum of one table entry per
  sub-vector.

  Args:
    found: See `product_tables`.
    codes: Codes of some videos.
  """

  def add(total, one):
    table, places = one
    return total + jnp.take(table, places, axis=1, mode='clip'), None

  queries = found.shape[1]
  empty = jnp.zeros((queries, len(codes), codes.shape[2]), jnp.float32)
  places = codes.swapaxes(0, 1).astype(jnp.int32)
  return jax.lax.scan(add, empty, (found, places))[0]


def _float32(tokens: Float[Array, '... d'], scaled: bool) -> Any:
  found = tokens.astype(jnp.float32)
  return l2_normalize(found) if scaled else found


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
  """Returns squared distances, less the term that all centres share."""
  return jnp.square(centres).sum(axis=-1)[:, None] - 2 * centres @ x.T
