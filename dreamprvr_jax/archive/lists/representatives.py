"""Representatives: one vector for a run of neighbouring tokens that are alike.

The tokens of a shot hardly differ, so a first pass need not look at each. The
tokens of a row are taken in order. A token joins the run before it if its
squared distance from the run's mean is at most 2 * (1 - `ALIKE`) times the
product of both lengths: for tokens of unit length, about a cosine of `ALIKE`.
Else it begins the next run. The representative of a run is its mean.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from dreamprvr_jax.numerics import NORM_FLOOR

# Cosine of tokens of a run with its mean, at least, about.
ALIKE = 0.9


def representatives(
  tokens: Float[np.ndarray, 'b s d'],
  real: Bool[np.ndarray, 'b s'],
  *,
  unit: bool,
) -> tuple[Float[np.ndarray, 'm d'], Int[np.ndarray, ' m']]:
  """Returns the representatives of some rows, and the row of each.

  Args:
    tokens: Tokens of one branch, float32.
    real: Which of them are real.
    unit: Whether tokens count at length 1, as for a score that is a cosine.

  Returns:
    The representatives, float32, in the order of the tokens; the number of each
    one's row, from 0, int64.
  """
  if unit:
    norms = np.sqrt(np.einsum('bsd,bsd->bs', tokens, tokens))
    tokens = tokens / np.maximum(norms, NORM_FLOOR)[..., None]
  begins = _begins(tokens, real)
  flat, places = tokens[real], np.flatnonzero(real)
  if not len(flat):
    return flat, places
  starts = np.flatnonzero(begins.reshape(-1)[places])
  counts = np.diff(starts, append=len(flat))
  found = np.add.reduceat(flat, starts, axis=0) / counts[:, None]
  return found.astype(np.float32), places[starts] // tokens.shape[1]


def _begins(
  tokens: Float[np.ndarray, 'b s d'], real: Bool[np.ndarray, 'b s']
) -> Bool[np.ndarray, 'b s']:
  """Returns which tokens begin a run."""
  found = np.zeros(real.shape, bool)
  squares = np.einsum('bsd,bsd->bs', tokens, tokens)
  total = np.zeros((len(tokens), tokens.shape[2]), np.float32)
  length = np.zeros(len(tokens), np.float32)
  count = np.zeros(len(tokens), np.float32)
  for place in range(tokens.shape[1]):
    one, here = tokens[:, place], real[:, place]
    # Square of the length of the mean, and its product with the token.
    safe = np.maximum(count, 1)
    mean = length / safe**2
    product = np.einsum('bd,bd->b', one, total) / safe
    apart = squares[:, place] - 2 * product + mean
    allowed = 2 * (1 - ALIKE) * np.sqrt(squares[:, place] * mean)
    begins = here & ((count == 0) | (apart > allowed))
    found[:, place] = begins
    total[begins] = 0
    count[begins] = 0
    total[here] += one[here]
    count += here
    length = np.einsum('bd,bd->b', total, total)
  return found
