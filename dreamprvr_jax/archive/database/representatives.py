"""Vectors that stand for runs of alike tokens, as a shot of a video has."""

import numpy as np
from jaxtyping import Bool, Float, Int

# The least cosine of a token with the mean of the run that it joins.
ALIKE = 0.85


def representatives(
  tokens: Float[np.ndarray, 'n s d'],
  mask: Bool[np.ndarray, 'n s'],
  *,
  unit: bool = True,
) -> tuple[Float[np.ndarray, 'm d'], Int[np.ndarray, ' m']]:
  """Returns the means of the runs of each row, and the row of each.

  A run is a stretch of tokens that follow one another; a token joins it if its
  cosine with the mean of the run so far is at least `ALIKE`.

  Args:
    tokens: The tokens of some rows.
    mask: Which tokens are real.
    unit: Whether tokens count at length 1, as for a score that is a cosine.
  """
  rows, length, width = tokens.shape
  norms = np.linalg.norm(tokens, axis=-1, keepdims=True)
  units = tokens / np.maximum(norms, np.finfo(np.float32).tiny)
  total = np.zeros((rows, width), np.float32)
  # The number of a row's run; -1 before its first.
  number = np.full(rows, -1)
  runs = np.full((rows, length), -1)
  for i in range(length):
    token, real = units[:, i], mask[:, i]
    cosine = np.einsum('nd,nd->n', token, total)
    is_far = cosine < ALIKE * np.linalg.norm(total, axis=-1)
    starts = real & ((number < 0) | is_far)
    number = number + starts
    total = np.where(starts[:, None], 0, total) + token * real[:, None]
    runs[:, i] = np.where(real, number, -1)
  row, place = np.nonzero(mask)
  key = row * length + runs[row, place]
  first = np.flatnonzero(np.diff(key, prepend=-1))
  if not len(first):
    return np.zeros((0, width), np.float32), np.zeros(0, np.int64)
  found = np.add.reduceat((units if unit else tokens)[row, place], first)
  counts = np.diff(np.append(first, len(row)))
  return (found / counts[:, None]).astype(np.float32), row[first]
