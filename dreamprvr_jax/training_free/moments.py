"""Moments of a video: vectors of its pieces, smoothed over their graph.

Everything is float64 up to the final cast. Source: docs/method.md, "TF-PRVR".
"""

import math
from collections.abc import Sequence

import numpy as np

from dreamprvr_jax.errors import UserError
from dreamprvr_jax.training_free.cuts import levels_of, unit_rows

WAVELET, BETA = 'db4', 0.7
# A mean of vectors that is no longer is 0.
_LEAST_NORM = 1e-12


def check_beta(beta: float) -> float:
  """Returns the weight of the graph.

  Raises:
    UserError: Unless it is at least 0 and below 1.
  """
  if not (math.isfinite(beta) and 0 <= beta < 1):
    raise UserError(
      f'beta is {beta}; give a number from 0 (no graph) to below 1'
    )
  return beta


def moment_edges(features: np.ndarray, wavelet: str = WAVELET) -> np.ndarray:
  """Returns the borders of a video's moments, (m + 1,) int64 frame numbers.

  Raises:
    FeaturesError: See `unit_rows`.
    UserError: If the wavelet is unknown.
  """
  return _joined(levels_of(unit_rows(features), wavelet))


def moments(
  features: np.ndarray, wavelet: str = WAVELET, beta: float = BETA
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the vectors of a video's moments, and their borders.

  Args:
    features: (t, d) frame vectors of any float type and length.
    wavelet: A key of `taps.DEC_LO`.
    beta: Weight of the graph, at least 0 and below 1.

  Returns:
    (m, d) float32, not of unit length: a query's score with a moment is the
    product of the unit query with it. (m + 1,) int64 frame numbers from 0 to t:
    moment k has the frames from border k up to border k + 1.

  Raises:
    FeaturesError: See `unit_rows`.
    UserError: If the wavelet or beta is unknown.
  """
  frames = unit_rows(features)
  levels = levels_of(frames, wavelet)
  nodes = np.concatenate([pieces(frames, edges) for edges in levels])
  smooth = propagated(nodes, graph(nodes, levels), check_beta(beta))
  edges = _joined(levels)
  middles = (edges[:-1] + edges[1:]) / 2
  total, first = np.zeros((len(middles), frames.shape[1])), 0
  for level in levels:
    total += smooth[first + np.searchsorted(level[1:], middles, 'right')]
    first += len(level) - 1
  return (total / len(levels)).astype(np.float32), edges


def pieces(frames: np.ndarray, edges: np.ndarray) -> np.ndarray:
  """Returns the unit means of the frames of each piece; 0 where they cancel."""
  sums = np.add.reduceat(frames, edges[:-1], axis=0)
  means = sums / np.diff(edges)[:, None]
  norms = np.linalg.norm(means, axis=1, keepdims=True)
  real = norms > _LEAST_NORM
  return np.where(real, means / np.where(real, norms, 1), 0)


def graph(nodes: np.ndarray, levels: Sequence[np.ndarray]) -> np.ndarray:
  """Returns how strongly the pieces are tied, normalised by their degrees.

  Args:
    nodes: (n, d) vectors of the pieces, level after level.
    levels: The edges of each level.

  Returns:
    (n, n) float64, symmetric, with eigenvalues of at most 1.
  """
  weights = np.zeros((len(nodes), len(nodes)))
  ends = np.cumsum([len(level) - 1 for level in levels])
  rows = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
  for row, level in zip(rows, levels, strict=True):
    middles = (level[:-1] + level[1:]) / 2
    mean = level[-1] / (len(level) - 1)
    away = np.abs(middles[:, None] - middles) / mean
    weights[row, row] = _alike(nodes[row], nodes[row]) + np.exp(-away)
  for i in range(len(levels) - 1):
    fine, coarse = rows[i], rows[i + 1]
    tie = _overlap(levels[i], levels[i + 1]) * _alike(
      nodes[fine], nodes[coarse]
    )
    weights[fine, coarse], weights[coarse, fine] = tie, tie.T
  np.fill_diagonal(weights, 1)
  scale = 1 / np.sqrt(weights.sum(axis=1))
  return weights * scale[:, None] * scale


def propagated(nodes: np.ndarray, tied: np.ndarray, beta: float) -> np.ndarray:
  """Returns the vectors of the pieces, smoothed over the graph, (n, d)."""
  system = np.eye(len(nodes)) - beta * tied
  return (1 - beta) * np.linalg.solve(system, nodes)


def _alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  return np.maximum(a @ b.T, 0)


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Returns the shares of common frames of the pieces of two levels: those in
  both over those in either."""
  common = np.minimum(a[1:, None], b[1:]) - np.maximum(a[:-1, None], b[:-1])
  common = np.maximum(common, 0)
  return common / (np.diff(a)[:, None] + np.diff(b) - common)


def _joined(levels: Sequence[np.ndarray]) -> np.ndarray:
  """Returns the edges of all levels, each once, in rising order."""
  return np.unique(np.concatenate(levels))
