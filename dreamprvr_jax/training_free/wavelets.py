"""Responses of an orthogonal wavelet to a signal, level by level."""

import math

import numpy as np

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.training_free.taps import DEC_LO


def filters(wavelet: str) -> dict[str, np.ndarray]:
  """Returns the four filters of a wavelet, (l,) float64 each.

  Args:
    wavelet: A key of `taps.DEC_LO`.

  Returns:
    `dec_lo` and `dec_hi` to analyse a signal, `rec_lo` and `rec_hi` to put it
    together again.

  Raises:
    UserError: If the name is unknown.
  """
  if wavelet not in DEC_LO:
    raise UserError(
      f'the wavelet {wavelet!r} is unknown; those that work are '
      f'{", ".join(DEC_LO)}'
    )
  dec_lo = np.array(DEC_LO[wavelet])
  signs = np.where(np.arange(len(dec_lo)) % 2, 1.0, -1.0)
  rec_lo = dec_lo[::-1]
  dec_hi = signs * rec_lo
  return {
    'dec_lo': dec_lo,
    'dec_hi': dec_hi,
    'rec_lo': rec_lo,
    'rec_hi': dec_hi[::-1],
  }


def depth(length: int, taps: int) -> int:
  """Returns how many levels a signal of `length` values has: the most at which
  a filter of `taps` values still fits into it."""
  if length < taps - 1:
    return 0
  return int(math.log2(length / (taps - 1)))


def responses(signal: np.ndarray, wavelet: str) -> np.ndarray:
  """Returns the size of a signal's detail at each level, the finest first.

  A level's response is the signal that its detail coefficients alone give when
  the transform is undone.

  Args:
    signal: (n,) float64.
    wavelet: A key of `taps.DEC_LO`.

  Returns:
    (levels, n) float64, not negative; no level if the signal is too short.

  Raises:
    UserError: If the wavelet is unknown.
  """
  bank = filters(wavelet)
  count = depth(len(signal), len(bank['dec_lo']))
  rows = np.zeros((count, len(signal)))
  details = []
  for level in range(count):
    details.append(_analysed(signal, bank['dec_hi']))
    signal = _analysed(signal, bank['dec_lo'])
    found = _synthesised(details[level], bank['rec_hi'])
    for finer in reversed(details[:level]):
      found = _synthesised(found[: len(finer)], bank['rec_lo'])
    rows[level] = np.abs(found[: rows.shape[1]])
  return rows


def _analysed(values: np.ndarray, taps: np.ndarray) -> np.ndarray:
  """Returns every second product of a filter with a sequence, which is
  mirrored at both ends (the end value comes twice)."""
  size, length = len(values), len(taps)
  ends = 2 * np.arange((size + length - 1) // 2) + 1
  places = (ends[:, None] - np.arange(length)) % (2 * size)
  mirrored = np.minimum(places, 2 * size - 1 - places)
  return values[mirrored] @ taps


def _synthesised(coefficients: np.ndarray, taps: np.ndarray) -> np.ndarray:
  """Returns the sequence, twice as long, that coefficients of one filter give;
  (2k - l + 2,) from (k,) coefficients and l taps."""
  spread = np.zeros(2 * len(coefficients) - 1)
  spread[::2] = coefficients
  whole = np.convolve(spread, taps)
  return whole[len(taps) - 2 : 2 * len(coefficients)]
