"""Tokens of a stretch of a video, as rows of an index."""

import itertools
import math

import numpy as np

from dreamprvr_jax.training_free.cuts import unit_rows
from dreamprvr_jax.training_free.moments import BETA, WAVELET, moments

# Frame tokens of a row; a stretch with more becomes several rows.
ROW_TOKENS = 32


def tokens_of(
  name: str, features: np.ndarray, wavelet: str = WAVELET, beta: float = BETA
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the frame tokens of a video, and their borders.

  Args:
    name: 'best_frame' (all frames, at length 1) or 'tf_prvr' (moments).
    features: (n, d) frame vectors of any float type, n at least 1.
    wavelet: See `moments.moments`.
    beta: See `moments.moments`.

  Returns:
    (m, d) float32 tokens; (m + 1,) int64 frame numbers from 0 to n.

  Raises:
    FeaturesError: If a vector is no direction; see `cuts.unit_rows`.
    UserError: If the wavelet is unknown, or beta is not from 0 to below 1.
  """
  if name == 'tf_prvr':
    return moments(features, wavelet, beta)
  if name != 'best_frame':
    raise ValueError(f'{name!r} is no retriever without training')
  frames = unit_rows(features)
  return frames.astype(np.float32), np.arange(len(frames) + 1)


def mean_token(features: np.ndarray) -> np.ndarray:
  """Returns the mean of a video's unit frames at length 1, (d,) float32; 0 if
  they cancel."""
  mean = unit_rows(features).mean(axis=0)
  norm = np.linalg.norm(mean)
  return (mean / norm if norm > 0 else mean).astype(np.float32)


def borders(
  count: int,
  times: np.ndarray | None = None,
  start: float = 0.0,
  duration: float = math.nan,
) -> np.ndarray:
  """Returns the borders of frames as fractions of their stretch.

  Args:
    count: Frames n.
    times: (n,) rising seconds at which the frames were taken; None if they
      share the stretch evenly.
    start: Second at which the stretch begins.
    duration: Its seconds; if NaN, the frames share it evenly.

  Returns:
    (n + 1,) float64 from 0 to 1: a frame lasts from half way to the one before
    to half way to the next.
  """
  if times is None or not duration > 0:
    return np.arange(count + 1) / count
  middles = (np.asarray(times[:-1]) + np.asarray(times[1:])) / 2
  inner = np.clip((middles - start) / duration, 0, 1)
  return np.concatenate([[0.0], inner, [1.0]])


def rows_of(
  name: str,
  features: np.ndarray,
  *,
  wavelet: str = WAVELET,
  beta: float = BETA,
  times: np.ndarray | None = None,
  start: float = 0.0,
  duration: float = math.nan,
) -> dict[str, np.ndarray]:
  """Returns a stretch of a video as r rows of an index.

  There is one row for each `ROW_TOKENS` tokens, and tokens are shared evenly
  among them. Padded tokens repeat the last one, so that they change no maximum;
  padded borders are 1.

  Args:
    name: See `tokens_of`.
    features: (n, d) frame vectors.
    wavelet: See `moments.moments`.
    beta: See `moments.moments`.
    times: See `borders`.
    start: Second of the file at which the stretch begins.
    duration: Seconds of the stretch, NaN if unknown.

  Returns:
    clip_tokens (r, 1, d) and frame_tokens (r, ROW_TOKENS, d) float32,
    frame_mask (r, ROW_TOKENS) bool, clip_edges (r, 2) and frame_edges (r,
    ROW_TOKENS + 1) float32, fractions of the row's own stretch, starts and
    durations (r,) float64 seconds.

  Raises:
    FeaturesError, UserError: See `tokens_of`.
  """
  features = np.asarray(features)
  tokens, edges = tokens_of(name, features, wavelet, beta)
  places = borders(len(features), times, start, duration)[edges]
  count = -(-len(tokens) // ROW_TOKENS)
  cuts = np.arange(count + 1) * len(tokens) // count
  width = tokens.shape[1]
  found = {
    'clip_tokens': np.zeros((count, 1, width), np.float32),
    'frame_tokens': np.zeros((count, ROW_TOKENS, width), np.float32),
    'frame_mask': np.zeros((count, ROW_TOKENS), bool),
    'clip_edges': np.tile(np.array([0, 1], np.float32), (count, 1)),
    'frame_edges': np.ones((count, ROW_TOKENS + 1), np.float32),
    'starts': np.zeros(count),
    'durations': np.zeros(count),
  }
  for row, (first, last) in enumerate(itertools.pairwise(cuts)):
    mine = places[first : last + 1]
    length = mine[-1] - mine[0]
    size = last - first
    found['clip_tokens'][row, 0] = mean_token(
      features[edges[first] : edges[last]]
    )
    found['frame_tokens'][row] = tokens[
      first + np.minimum(np.arange(ROW_TOKENS), size - 1)
    ]
    found['frame_mask'][row, :size] = True
    if length > 0:
      found['frame_edges'][row, : size + 1] = (mine - mine[0]) / length
    # Without a known length, rows are in order, and no more.
    found['starts'][row] = start + mine[0] * (duration if duration > 0 else 1)
    found['durations'][row] = duration if count == 1 else length * duration
  return found
